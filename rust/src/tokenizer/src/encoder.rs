// SPDX-License-Identifier: Apache-2.0

//! The choice between the encoder of byte-level BPE, `fastokens` and the reference (`tokenizers`).
//!
//! All give the same ids for every class of tokenizer that is let through here; the tests compare them. What the first
//! does not cover goes to `fastokens`; what that does not cover, or covers differently, goes to the reference.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::byte_level::ByteLevelEncoder;
use crate::description::Document;
use crate::reference::Reference;
use crate::table::BYTE_ALPHABET_END;
use crate::{EncodeError, LoadError};

/// Bytes of text and ids that `fastokens` keeps of segments between special tokens: system prompts and earlier turns.
const SEGMENT_CACHE_BYTES: usize = 16 << 20;

/// Exercises each table that the fast encoder builds on first use: words, digits, spaces, scripts, a long text.
const WARM_UP: &str = "The quick brown fox can't jump over 12345 lazy dogs.\n\tfn main() { println!(\"né 你好 🙂\"); }\n";

/// Encodes text, by whichever way is exact and fastest.
pub(crate) struct Encoder {
    way: Way,
    json: Arc<str>,
    reference: OnceLock<Arc<Reference>>,
}

enum Way {
    ByteLevel(Box<ByteLevelEncoder>),
    Fast(Box<fastokens::Tokenizer>),
    Reference,
}

impl Way {
    fn choose(json: &str, document: &Document<'_>) -> Self {
        match ByteLevelEncoder::read(document) {
            Ok(encoder) => return Self::ByteLevel(Box::new(encoder)),
            Err(reason) => tracing::debug!("not the encoder of byte-level BPE: {reason}"),
        }
        match fast(json) {
            Ok(fast) => Self::Fast(Box::new(fast)),
            Err(reason) => {
                tracing::info!(
                    "the fast tokenizer does not cover this model ({reason}): using tokenizers"
                );
                Self::Reference
            }
        }
    }
}

impl Encoder {
    /// Takes the text of a `tokenizer.json`, which is kept for a later need of the reference, and what was read of it.
    pub(crate) fn load(json: Arc<str>, document: &Document<'_>) -> Result<Self, LoadError> {
        let encoder = Self {
            way: Way::choose(&json, document),
            json,
            reference: OnceLock::new(),
        };
        if matches!(encoder.way, Way::Reference) {
            encoder.reference()?;
        }
        encoder
            .warm_up()
            .map_err(|error| LoadError::new(error.to_string()))?;
        Ok(encoder)
    }

    /// Fills the tables that `fastokens` builds on first use.
    fn warm_up(&self) -> Result<(), EncodeError> {
        match self.way {
            Way::ByteLevel(_) => Ok(()),
            Way::Fast(_) | Way::Reference => self.encode(&WARM_UP.repeat(8), true).map(drop),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self.way {
            Way::ByteLevel(_) => "byte-level",
            Way::Fast(_) => "fastokens",
            Way::Reference => "tokenizers",
        }
    }

    /// The reference, loaded on first use: where a fast encoder serves, nobody pays for it.
    pub(crate) fn reference(&self) -> Result<Arc<Reference>, LoadError> {
        if let Some(reference) = self.reference.get() {
            return Ok(reference.clone());
        }
        let reference = Arc::new(Reference::load(&self.json)?);
        Ok(self.reference.get_or_init(|| reference).clone())
    }

    pub(crate) fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, EncodeError> {
        let ids = match &self.way {
            Way::ByteLevel(encoder) => Some(encoder.encode(text, add_special)),
            Way::Fast(fast) => try_fast(fast, text, add_special),
            Way::Reference => None,
        };
        if let Some(ids) = ids {
            return Ok(ids);
        }
        let reference = self
            .reference()
            .map_err(|error| EncodeError::new(error.to_string()))?;
        reference.encode(text, add_special)
    }
}

fn try_fast(fast: &fastokens::Tokenizer, text: &str, add_special: bool) -> Option<Vec<u32>> {
    let encode = || fast.encode_with_special_tokens(text, add_special);
    if let Ok(Ok(ids)) = catch_unwind(AssertUnwindSafe(encode)) {
        return Some(ids);
    }
    tracing::warn!(
        "the fast tokenizer failed on a text of {} bytes: using tokenizers",
        text.len()
    );
    None
}

fn fast(json: &str) -> Result<fastokens::Tokenizer, String> {
    let mut parsed: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
    if let Some(reason) = difference(&parsed) {
        return Err(reason);
    }
    // The server limits lengths itself and never pads.
    parsed["truncation"] = Value::Null;
    parsed["padding"] = Value::Null;
    let mut fast = fastokens::Tokenizer::from_json(parsed).map_err(|error| error.to_string())?;
    fast.enable_segment_cache(SEGMENT_CACHE_BYTES);
    Ok(fast)
}

/// Why the fast encoder would give other ids than the reference for this tokenizer.
fn difference(json: &Value) -> Option<String> {
    let added = json["added_tokens"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    if added.iter().any(|token| token["single_word"] == true) {
        return Some("an added token matches whole words only".into());
    }
    if json["model"]["dropout"]
        .as_f64()
        .is_some_and(|dropout| dropout > 0.0)
    {
        return Some("the model drops merges at random".into());
    }
    let token = unreachable_token(json, added)?;
    Some(format!(
        "no merge can make the token {token:?}, but it would be matched as a whole word"
    ))
}

/// A token with a character that is no token itself: merges start from single characters, so the reference never
/// gives it, while `fastokens` does for a word that equals it. Added tokens are cut out of the text before.
fn unreachable_token<'a>(json: &'a Value, added: &[Value]) -> Option<&'a str> {
    let vocabulary = json["model"]["vocab"].as_object()?;
    let added: HashSet<&str> = added
        .iter()
        .filter_map(|token| token["content"].as_str())
        .collect();
    let is_single = |token: &&String| token.chars().nth(1).is_none();
    let single: HashSet<char> = vocabulary
        .keys()
        .filter(is_single)
        .filter_map(|token| token.chars().next())
        .collect();
    // Text reaches a byte-level vocabulary in its alphabet only.
    let byte_level = has_byte_level(&json["pre_tokenizer"]);
    let can_occur = |char: char| !byte_level || (char as usize) < BYTE_ALPHABET_END;
    let unreachable = |token: &&str| {
        token.chars().nth(1).is_some()
            && token.chars().any(|char| !single.contains(&char))
            && token.chars().all(can_occur)
            && !added.contains(token)
    };
    vocabulary.keys().map(String::as_str).find(unreachable)
}

fn has_byte_level(pre_tokenizer: &Value) -> bool {
    let nested = pre_tokenizer["pretokenizers"].as_array();
    pre_tokenizer["type"] == "ByteLevel" || nested.into_iter().flatten().any(has_byte_level)
}
