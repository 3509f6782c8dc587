// SPDX-License-Identifier: Apache-2.0

//! A `tokenizer.json`, read once: vocabulary and merges without a copy, the small sections as they stand.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::LoadError;

/// Ids above this are taken for damage, not for a vocabulary (the largest known have 262 thousand tokens).
const MAX_TOKEN_ID: u64 = 1 << 24;

/// The sections of a `tokenizer.json` that are read here.
#[derive(Deserialize)]
pub(crate) struct Document<'a> {
    #[serde(default)]
    pub(crate) added_tokens: Vec<Value>,
    #[serde(default)]
    pub(crate) normalizer: Value,
    #[serde(default)]
    pub(crate) pre_tokenizer: Value,
    #[serde(default)]
    pub(crate) post_processor: Value,
    #[serde(default)]
    pub(crate) decoder: Value,
    #[serde(borrow, default)]
    pub(crate) model: Model<'a>,
}

/// The `model` section.
#[derive(Deserialize, Default)]
pub(crate) struct Model<'a> {
    #[serde(default, rename = "type")]
    pub(crate) kind: Option<String>,
    #[serde(default)]
    pub(crate) dropout: Option<f64>,
    #[serde(default)]
    pub(crate) unk_token: Option<String>,
    #[serde(default)]
    pub(crate) byte_fallback: Option<bool>,
    #[serde(default)]
    pub(crate) continuing_subword_prefix: Option<String>,
    #[serde(default)]
    pub(crate) end_of_word_suffix: Option<String>,
    #[serde(default)]
    pub(crate) ignore_merges: Option<bool>,
    #[serde(borrow, default)]
    pub(crate) vocab: Vocabulary<'a>,
    #[serde(borrow, default)]
    pub(crate) merges: Merges<'a>,
}

/// Tokens with their ids, in the order of the file.
#[derive(Default)]
pub(crate) struct Vocabulary<'a>(pub(crate) Option<Vec<(Cow<'a, str>, u32)>>);

/// Pairs that a BPE model joins, the first to be joined first; `None` for something else than pairs.
#[derive(Default)]
pub(crate) struct Merges<'a>(pub(crate) Option<Vec<(Cow<'a, str>, Cow<'a, str>)>>);

impl<'a> Document<'a> {
    pub(crate) fn read(json: &'a str) -> Result<Self, LoadError> {
        let fail = |error: &dyn fmt::Display| LoadError::new(format!("tokenizer.json: {error}"));
        serde_json::from_str(json).map_err(|error| fail(&error))
    }
}

/// A string that is borrowed wherever the file holds it without an escape.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Vocabulary<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(VocabularyVisitor)
    }
}

struct VocabularyVisitor;

/// `{token: id}`, or `[[token, score], ...]` for Unigram models.
impl<'de> Visitor<'de> for VocabularyVisitor {
    type Value = Vocabulary<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a vocabulary")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut tokens = Vec::new();
        while let Some((Text(token), id)) = map.next_entry::<Text<'de>, Value>()? {
            let id = token_id(&token, &id).map_err(A::Error::custom)?;
            tokens.push((token, id));
        }
        Ok(Vocabulary(Some(tokens)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut tokens = Vec::new();
        while let Some((Text(token), _)) = list.next_element::<(Text<'de>, f64)>()? {
            tokens.push((token, tokens.len() as u32));
        }
        Ok(Vocabulary(Some(tokens)))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Vocabulary(None))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Merges<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MergesVisitor)
    }
}

struct MergesVisitor;

/// `["a b", ...]` or `[["a", "b"], ...]`.
impl<'de> Visitor<'de> for MergesVisitor {
    type Value = Merges<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a list of merges")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let (mut pairs, mut sound) = (Vec::new(), true);
        while let Some(Pair(pair)) = list.next_element()? {
            match pair {
                Some(pair) => pairs.push(pair),
                None => sound = false,
            }
        }
        Ok(Merges(sound.then_some(pairs)))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Merges(None))
    }
}

/// One merge; `None` for a text that is not two tokens with one space between.
struct Pair<'a>(Option<(Cow<'a, str>, Cow<'a, str>)>);

impl<'de> Deserialize<'de> for Pair<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PairVisitor)
    }
}

struct PairVisitor;

impl<'de> Visitor<'de> for PairVisitor {
    type Value = Pair<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a merge")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<Self::Value, A::Error> {
        let left = pair.next_element::<Text<'de>>()?;
        let right = pair.next_element::<Text<'de>>()?;
        let whole = pair.next_element::<Value>()?.is_none();
        let both = left.zip(right).filter(|_| whole);
        Ok(Pair(both.map(|(left, right)| (left.0, right.0))))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        let pair = one_space(text);
        Ok(Pair(pair.map(|(left, right)| (left.into(), right.into()))))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        let pair = one_space(text);
        let own = |text: &str| Cow::Owned(text.to_owned());
        Ok(Pair(pair.map(|(left, right)| (own(left), own(right)))))
    }
}

fn one_space(text: &str) -> Option<(&str, &str)> {
    text.split_once(' ')
        .filter(|(_, right)| !right.contains(' '))
}

fn token_id(token: &str, id: &Value) -> Result<u32, String> {
    let known = id.as_u64().filter(|id| *id <= MAX_TOKEN_ID);
    known.map(|id| id as u32).ok_or_else(|| {
        format!("the id of {token:?} is {id}, expected an integer from 0 to {MAX_TOKEN_ID}")
    })
}

/// Which ids stand for which tokens, and how tokens become text.
pub(crate) struct Description<'a> {
    /// Token in vocabulary form by id; ids may have holes.
    pub(crate) tokens: Vec<Option<&'a str>>,
    /// Texts of the tokens that `skip_special_tokens` leaves out.
    pub(crate) special: HashSet<&'a str>,
    /// The `decoder` section.
    pub(crate) decoder: &'a Value,
}

impl<'a> Description<'a> {
    pub(crate) fn read(document: &'a Document<'_>) -> Result<Self, LoadError> {
        let mut description = Self {
            tokens: Vec::new(),
            special: HashSet::new(),
            decoder: &document.decoder,
        };
        let Some(vocabulary) = &document.model.vocab.0 else {
            return Err(LoadError::new("tokenizer.json has no model.vocab"));
        };
        description.tokens.reserve(vocabulary.len());
        vocabulary
            .iter()
            .for_each(|(token, id)| description.put(*id, token));
        for token in &document.added_tokens {
            description.read_added(token)?;
        }
        Ok(description)
    }

    fn read_added(&mut self, token: &'a Value) -> Result<(), LoadError> {
        let Some(content) = token["content"].as_str() else {
            return Err(LoadError::new(
                "tokenizer.json: an entry of added_tokens has no content",
            ));
        };
        if content.is_empty() {
            return Ok(());
        }
        if token["special"].as_bool() == Some(true) {
            self.special.insert(content);
        }
        let id = token_id(content, &token["id"])
            .map_err(|error| LoadError::new(format!("tokenizer.json: {error}")))?;
        self.put(id, content);
        Ok(())
    }

    fn put(&mut self, id: u32, token: &'a str) {
        let id = id as usize;
        if id >= self.tokens.len() {
            self.tokens.resize(id + 1, None);
        }
        self.tokens[id] = Some(token);
    }
}
