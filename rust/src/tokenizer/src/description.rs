// SPDX-License-Identifier: Apache-2.0

//! What is read of a `tokenizer.json` here: which ids stand for which tokens, and how tokens become text.

use std::collections::HashSet;

use serde_json::Value;

use crate::LoadError;

/// Ids above this are taken for damage, not for a vocabulary (the largest known have 262 thousand tokens).
const MAX_TOKEN_ID: u64 = 1 << 24;

/// Vocabulary and decoder of a tokenizer.
pub(crate) struct Description {
    /// Token in vocabulary form by id; ids may have holes.
    pub(crate) tokens: Vec<Option<String>>,
    /// Texts of the tokens that `skip_special_tokens` leaves out.
    pub(crate) special: HashSet<String>,
    /// The `decoder` section.
    pub(crate) decoder: Value,
}

impl Description {
    pub(crate) fn read(json: &Value) -> Result<Self, LoadError> {
        let mut description = Self {
            tokens: Vec::new(),
            special: HashSet::new(),
            decoder: json["decoder"].clone(),
        };
        description.read_vocabulary(&json["model"]["vocab"])?;
        for token in json["added_tokens"].as_array().into_iter().flatten() {
            description.read_added(token)?;
        }
        Ok(description)
    }

    /// `{token: id}`, or `[[token, score], ...]` for Unigram models.
    fn read_vocabulary(&mut self, vocabulary: &Value) -> Result<(), LoadError> {
        match vocabulary {
            Value::Object(entries) => {
                self.tokens.reserve(entries.len());
                entries
                    .iter()
                    .try_for_each(|(token, id)| self.put(id, token))
            }
            Value::Array(entries) => {
                let text = |entry: &Value| Some(entry.get(0)?.as_str()?.to_owned());
                self.tokens = entries.iter().map(text).collect();
                Ok(())
            }
            _ => Err(LoadError::new("tokenizer.json has no model.vocab")),
        }
    }

    fn read_added(&mut self, token: &Value) -> Result<(), LoadError> {
        let Some(content) = token["content"].as_str() else {
            return Err(LoadError::new(
                "tokenizer.json: an entry of added_tokens has no content",
            ));
        };
        if content.is_empty() {
            return Ok(());
        }
        if token["special"].as_bool() == Some(true) {
            self.special.insert(content.to_owned());
        }
        self.put(&token["id"], content)
    }

    fn put(&mut self, id: &Value, token: &str) -> Result<(), LoadError> {
        let Some(id) = id.as_u64().filter(|id| *id <= MAX_TOKEN_ID) else {
            let reason = format!(
                "tokenizer.json: the id of {token:?} is {id}, expected 0 to {MAX_TOKEN_ID}"
            );
            return Err(LoadError::new(reason));
        };
        let id = id as usize;
        if id >= self.tokens.len() {
            self.tokens.resize(id + 1, None);
        }
        self.tokens[id] = Some(token.to_owned());
        Ok(())
    }
}
