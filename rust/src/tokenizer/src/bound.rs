// SPDX-License-Identifier: Apache-2.0

//! A lower bound on the tokens of a text, told from its bytes without encoding it.
//!
//! Only byte-level BPE has one: there every byte of a text is in exactly one token, or left out if it has none.

use serde_json::Value;

use crate::description::Document;
use crate::table::byte_alphabet;

/// Bytes of text that NFC makes one byte of (U+212A, three bytes, becomes a K), and one more for later tables.
const MOST_COMPOSED: usize = 4;

/// What the bound is made of.
pub(crate) struct Bound {
    /// Bytes of text that a token stands for at most.
    pub(crate) longest: usize,
    /// Bytes that are in tokens; `None` for all of them.
    kept: Option<[bool; 256]>,
}

impl Bound {
    /// `None` where a token may stand for any number of bytes.
    pub(crate) fn read(document: &Document<'_>) -> Option<Self> {
        let composes = match document.normalizer["type"].as_str() {
            None if document.normalizer.is_null() => false,
            Some("NFC") => true,
            _ => return None,
        };
        let model = &document.model;
        // A token that takes the spaces around it, and one for whatever is unknown, have no length.
        let strips = |token: &Value| token["lstrip"] == true || token["rstrip"] == true;
        let stretches = document.added_tokens.iter().any(strips) || model.unk_token.is_some();
        let is_byte_level = model.kind.as_deref() == Some("BPE")
            && has_byte_level(&document.pre_tokenizer)
            && keeps_text(&document.pre_tokenizer);
        let kept = kept(document);
        // What is composed may gain or lose bytes of the kind that is left out.
        if stretches || !is_byte_level || composes && kept.is_some() {
            return None;
        }
        let longest = longest_token(document) * if composes { MOST_COMPOSED } else { 1 };
        (longest > 0).then_some(Self { longest, kept })
    }

    /// Tokens that a text has at least.
    pub(crate) fn least_tokens(&self, text: &str) -> usize {
        let bytes = match &self.kept {
            None => text.len(),
            Some(kept) => text.bytes().filter(|byte| kept[*byte as usize]).count(),
        };
        bytes.div_ceil(self.longest)
    }
}

/// Which bytes have tokens; `None` if all that occur in text do.
fn kept(document: &Document<'_>) -> Option<[bool; 256]> {
    let alphabet = byte_alphabet();
    let mut kept = [false; 256];
    for (token, _) in document.model.vocab.0.iter().flatten() {
        let mut chars = token.chars();
        if let (Some(char), None) = (chars.next(), chars.next())
            && let Some(Some(byte)) = alphabet.get(char as usize)
        {
            kept[*byte as usize] = true;
        }
    }
    let is_in_text = |byte: u8| !matches!(byte, 0xc0 | 0xc1 | 0xf5..);
    let is_whole = (0u8..=255).all(|byte| kept[byte as usize] || !is_in_text(byte));
    (!is_whole).then_some(kept)
}

/// A character of the vocabulary's alphabet is a byte; added tokens are text.
fn longest_token(document: &Document<'_>) -> usize {
    let vocabulary = document.model.vocab.0.iter().flatten();
    let own = vocabulary.map(|(token, _)| token.chars().count());
    let added = document.added_tokens.iter();
    let added = added.map(|token| token["content"].as_str().unwrap_or_default().len());
    own.chain(added).max().unwrap_or(0)
}

fn steps(section: &Value) -> impl Iterator<Item = &Value> {
    let one = (section["type"] != "Sequence").then_some(section);
    let several = section["pretokenizers"].as_array();
    one.into_iter().chain(several.into_iter().flatten())
}

fn has_byte_level(section: &Value) -> bool {
    steps(section).any(|step| step["type"] == "ByteLevel")
}

/// Whether the steps before the model only cut.
fn keeps_text(section: &Value) -> bool {
    steps(section).all(|step| match step["type"].as_str() {
        Some("ByteLevel" | "Digits") => true,
        Some("Split") => step["behavior"] != "Removed",
        _ => false,
    })
}
