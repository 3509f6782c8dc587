// SPDX-License-Identifier: Apache-2.0

//! The tokenizer of a model.

use std::borrow::Cow;
use std::sync::Arc;

use vllm_model_files::ModelFiles;

use crate::{Detokenizer, EncodeError, LoadError};

/// A model's tokenizer. Cheap to clone, shared by all threads.
#[derive(Clone)]
pub struct Tokenizer {
    _inner: Arc<()>,
}

#[allow(missing_docs)]
impl Tokenizer {
    /// Builds the tokenizer of a model and warms it up, so that the first request pays nothing extra.
    pub fn load(files: &ModelFiles) -> Result<Self, LoadError> {
        Self::from_json(files.tokenizer_json.clone())
    }

    /// The same from the text of a `tokenizer.json`.
    pub fn from_json(_json: Arc<str>) -> Result<Self, LoadError> {
        Err(LoadError {
            message: "not built yet".into(),
        })
    }

    /// Token ids of `text`. With `add_special_tokens` the tokenizer's own frame (such as a beginning-of-sequence
    /// token) is put around. Special tokens written out in `text` are recognized, as Hugging Face does.
    pub fn encode(&self, _text: &str, _add_special_tokens: bool) -> Result<Vec<u32>, EncodeError> {
        Err(EncodeError {
            message: "not built yet".into(),
        })
    }

    /// Text of a whole sequence; ids outside of the vocabulary give nothing.
    pub fn decode(&self, _ids: &[u32], _skip_special_tokens: bool) -> String {
        String::new()
    }

    /// A detokenizer for what follows `prompt` (empty: for a sequence from its start).
    pub fn detokenizer(&self, _prompt: &[u32], _skip_special_tokens: bool) -> Detokenizer {
        Detokenizer {}
    }

    /// Exact bytes that a token stands for within running text; `None` for an id outside of the vocabulary.
    pub fn token_bytes(&self, _id: u32) -> Option<&[u8]> {
        None
    }

    /// The same as text, U+FFFD where the bytes are no UTF-8; empty for an unknown id.
    pub fn token_text(&self, _id: u32) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    /// Id of a token given in its vocabulary form (byte-level alphabet, `▁`), added tokens included.
    pub fn token_to_id(&self, _token: &str) -> Option<u32> {
        None
    }

    /// Whether the token is left out of text under `skip_special_tokens`.
    pub fn is_special(&self, _id: u32) -> bool {
        false
    }

    /// Largest id plus one.
    pub fn vocab_size(&self) -> usize {
        0
    }
}
