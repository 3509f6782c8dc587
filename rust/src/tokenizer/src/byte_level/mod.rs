// SPDX-License-Identifier: Apache-2.0

//! The encoder for byte-level BPE whose cutting rule is known here: GPT-2, SmolLM, Llama 3, Qwen and their relatives.
//!
//! Owns: what such a tokenizer is made of, in tables that take milliseconds to build, and the caches of words and
//! segments. Its ids equal those of `tokenizers`; a description that it does not cover in full is refused with the
//! reason, and another encoder takes it.

mod class_ranges;
mod classes;
mod cutting;
mod merges;
mod segments;
mod words;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};

use aho_corasick::{AhoCorasick, MatchKind};
use serde_json::Value;
use unicode_normalization_alignments::{UnicodeNormalization, is_nfc};

use crate::description::Document;
use cutting::{Cutter, Rule};
use merges::Merges;
use segments::Segments;

/// Characters below this have no marks among them and no composition: text of them alone is in NFC.
const FIRST_MARK: char = '\u{300}';

/// Encodes text by cutting rule, merges and special tokens.
pub(crate) struct ByteLevelEncoder {
    /// Tells this tokenizer's words from others' in the caches of threads.
    number: u32,
    added: AddedTokens,
    /// Text is brought into NFC.
    composes: bool,
    cutter: Cutter,
    merges: Merges,
    frame: Frame,
    segments: Segments,
}

impl ByteLevelEncoder {
    /// Builds the encoder; the error says what of the description it does not cover.
    pub(crate) fn read(document: &Document<'_>) -> Result<Self, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        check_model(document)?;
        let composes = match document.normalizer["type"].as_str() {
            None if document.normalizer.is_null() => false,
            Some("NFC") => true,
            _ => return Err(format!("the normalizer is {}", document.normalizer)),
        };
        let rule =
            Rule::read(&document.pre_tokenizer).ok_or("the pre-tokenizer is of another family")?;
        Ok(Self {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            added: AddedTokens::read(document, composes)?,
            composes,
            cutter: Cutter::new(rule),
            merges: Merges::read(&document.model)?,
            frame: Frame::read(&document.post_processor)?,
            segments: Segments::new(),
        })
    }

    /// Token ids of `text`, within the tokenizer's frame if asked for.
    pub(crate) fn encode(&self, text: &str, add_special: bool) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 16);
        if add_special {
            ids.extend_from_slice(&self.frame.before);
        }
        self.added.split(text, |piece| match piece {
            Piece::Text(text) => self.segment(text, &mut ids),
            Piece::Token(id) => ids.push(id),
        });
        if add_special {
            ids.extend_from_slice(&self.frame.after);
        }
        ids
    }

    /// A piece of text without added tokens.
    fn segment(&self, text: &str, ids: &mut Vec<u32>) {
        self.segments.append(text, ids, |ids| {
            let text = match self.composes {
                true => compose(text),
                false => Cow::Borrowed(text),
            };
            words::on_this_thread(|words| {
                self.cutter.cut(&text, |from, to| {
                    words.append(
                        self.number,
                        text.as_bytes(),
                        (from, to),
                        ids,
                        |word, ids| {
                            self.merges.encode(word, ids);
                        },
                    );
                });
            });
        });
    }
}

fn check_model(document: &Document<'_>) -> Result<(), String> {
    let model = &document.model;
    let affix = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    if model.kind.as_deref() != Some("BPE") {
        return Err("the model is no BPE".into());
    }
    if model.dropout.is_some_and(|dropout| dropout != 0.0) {
        return Err("the model drops merges at random".into());
    }
    if affix(&model.continuing_subword_prefix) || affix(&model.end_of_word_suffix) {
        return Err("the model marks the parts of words".into());
    }
    Ok(())
}

/// Text in NFC, by the tables that `tokenizers` uses.
fn compose(text: &str) -> Cow<'_, str> {
    if text.chars().all(|char| char < FIRST_MARK) || is_nfc(text) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.nfc().map(|(char, _)| char).collect())
}

/// A part of a text.
enum Piece<'a> {
    Text(&'a str),
    Token(u32),
}

/// Tokens that are cut out of a text before anything else: the leftmost first, the longest of those at one place.
struct AddedTokens {
    finder: Option<AhoCorasick>,
    ids: Vec<u32>,
}

impl AddedTokens {
    /// Takes over plain tokens; the error names one that asks for more.
    fn read(document: &Document<'_>, composes: bool) -> Result<Self, String> {
        let (mut contents, mut ids): (Vec<&str>, Vec<u32>) = (Vec::new(), Vec::new());
        let mut normalized = Vec::new();
        for token in &document.added_tokens {
            let content = token["content"].as_str().unwrap_or_default();
            let asks = |flag: &str| token[flag] == true;
            if asks("single_word") || asks("lstrip") || asks("rstrip") {
                return Err(format!(
                    "the added token {content:?} looks at its surroundings"
                ));
            }
            if content.is_empty() {
                continue;
            }
            if contents.contains(&content) {
                return Err(format!("the added token {content:?} is listed twice"));
            }
            normalized.push(token["normalized"].as_bool().unwrap_or(true));
            contents.push(content);
            ids.push(token["id"].as_u64().unwrap_or(u64::MAX) as u32);
        }
        check_ids(document, &contents, &ids)?;
        // Those of the other kind would be looked for in what the first kind leaves.
        if normalized.iter().any(|own| *own != normalized[0]) {
            return Err(
                "some added tokens are matched before normalization, some behind it".into(),
            );
        }
        if composes && normalized.contains(&true) {
            return Err("added tokens are normalized".into());
        }
        let mut builder = AhoCorasick::builder();
        builder.match_kind(MatchKind::LeftmostLongest);
        let finder = builder
            .build(&contents)
            .map_err(|error| error.to_string())?;
        Ok(Self {
            finder: (!contents.is_empty()).then_some(finder),
            ids,
        })
    }

    fn split<'a>(&self, text: &'a str, mut piece: impl FnMut(Piece<'a>)) {
        let mut from = 0;
        for found in self.finder.iter().flat_map(|finder| finder.find_iter(text)) {
            if from < found.start() {
                piece(Piece::Text(&text[from..found.start()]));
            }
            piece(Piece::Token(self.ids[found.pattern().as_usize()]));
            from = found.end();
        }
        if from < text.len() {
            piece(Piece::Text(&text[from..]));
        }
    }
}

/// Compares ids with those that `tokenizers` gives, which need not be those of the file: the model's own where it knows
/// the token, else the next free one.
fn check_ids(document: &Document<'_>, contents: &[&str], ids: &[u32]) -> Result<(), String> {
    let vocabulary = document.model.vocab.0.as_deref().unwrap_or_default();
    let wanted: HashSet<&str, ahash::RandomState> = contents.iter().copied().collect();
    let known = vocabulary.iter().map(|(token, id)| (&**token, *id));
    let known: HashMap<&str, u32> = known.filter(|(token, _)| wanted.contains(token)).collect();
    let mut next = vocabulary.len() as u32;
    for (content, id) in contents.iter().zip(ids) {
        let given = known.get(content).copied().unwrap_or_else(|| {
            next += 1;
            next - 1
        });
        if given != *id {
            return Err(format!(
                "the added token {content:?} has the id {id} in the file, but {given} is its turn"
            ));
        }
    }
    Ok(())
}

/// Tokens that a post-processor puts around a text.
#[derive(Default)]
struct Frame {
    before: Vec<u32>,
    after: Vec<u32>,
}

impl Frame {
    fn read(section: &Value) -> Result<Self, String> {
        let refused = || format!("the post-processor is {}", section["type"]);
        match section["type"].as_str() {
            None if section.is_null() => Ok(Self::default()),
            // Moves offsets only.
            Some("ByteLevel") => Ok(Self::default()),
            Some("TemplateProcessing") => Self::template(section).ok_or_else(refused),
            Some("Sequence") => {
                let steps = section["processors"].as_array().ok_or_else(refused)?;
                let frames: Result<Vec<Self>, String> = steps.iter().map(Self::read).collect();
                let set = |frame: &Self| !(frame.before.is_empty() && frame.after.is_empty());
                let mut frames = frames?.into_iter().filter(set);
                match (frames.next(), frames.next()) {
                    (frame, None) => Ok(frame.unwrap_or_default()),
                    _ => Err(refused()),
                }
            }
            _ => Err(refused()),
        }
    }

    /// Special tokens before and behind one sequence.
    fn template(section: &Value) -> Option<Self> {
        let (mut frame, mut seen) = (Self::default(), false);
        for step in section["single"].as_array()? {
            if let Some(name) = step["SpecialToken"]["id"].as_str() {
                let ids = section["special_tokens"][name]["ids"].as_array()?;
                let side = if seen {
                    &mut frame.after
                } else {
                    &mut frame.before
                };
                for id in ids {
                    side.push(u32::try_from(id.as_u64()?).ok()?);
                }
            } else if step["Sequence"]["id"] == "A" && !seen {
                seen = true;
            } else {
                return None;
            }
        }
        seen.then_some(frame)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(change: impl FnOnce(&mut Value)) -> String {
        let mut vocabulary = serde_json::Map::new();
        for (code, byte) in crate::table::byte_alphabet().into_iter().enumerate() {
            if byte.is_some() {
                let char = char::from_u32(code as u32).expect("the alphabet is of characters");
                vocabulary.insert(char.to_string(), vocabulary.len().into());
            }
        }
        let mut json = json!({
            "added_tokens": [
                {"id": 256, "content": "<a>", "normalized": false}, {"id": 257, "content": "<b>", "normalized": false},
            ],
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
            "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
        });
        change(&mut json);
        let json = json.to_string();
        let document = Document::read(&json).expect("a document");
        ByteLevelEncoder::read(&document).err().unwrap_or_default()
    }

    #[test]
    fn what_is_not_covered_is_refused() {
        assert_eq!(refusal(|_| ()), "");
        assert_eq!(
            refusal(|json| json["model"]["type"] = "WordPiece".into()),
            "the model is no BPE"
        );
        assert_eq!(
            refusal(|json| json["model"]["dropout"] = 0.1.into()),
            "the model drops merges at random"
        );
        assert_eq!(
            refusal(|json| json["model"]["end_of_word_suffix"] = "</w>".into()),
            "the model marks the parts of words"
        );
        assert_eq!(
            refusal(|json| json["model"]["merges"] = json!(["a bc"])),
            r#"a merge names "bc", which is no token"#
        );
        assert_eq!(
            refusal(|json| {
                json["model"]["unk_token"] = "<unk>".into();
                let vocabulary = json["model"]["vocab"].as_object_mut();
                let vocabulary = vocabulary.expect("a vocabulary");
                let id = vocabulary.remove("a").expect("a token");
                vocabulary.insert("no byte".into(), id);
            }),
            "another token stands for the byte 97"
        );
        assert_eq!(
            refusal(|json| json["normalizer"] = json!({"type": "Lowercase"})),
            r#"the normalizer is {"type":"Lowercase"}"#
        );
        assert_eq!(
            refusal(|json| json["added_tokens"][1]["lstrip"] = true.into()),
            r#"the added token "<b>" looks at its surroundings"#
        );
        assert_eq!(
            refusal(|json| json["added_tokens"][1]["id"] = 300.into()),
            r#"the added token "<b>" has the id 300 in the file, but 257 is its turn"#
        );
        assert_eq!(
            refusal(|json| json["added_tokens"][1]["normalized"] = true.into()),
            "some added tokens are matched before normalization, some behind it"
        );
        assert_eq!(
            refusal(|json| json["post_processor"] = json!({"type": "BertProcessing"})),
            r#"the post-processor is "BertProcessing""#
        );
    }
}
