// SPDX-License-Identifier: Apache-2.0

//! The `tokenizers` crate: the measure of all ids and texts, and the way for tokenizers that nothing faster covers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::{EncodeError, LoadError};

/// A tokenizer of the `tokenizers` crate, without the truncation and padding that its file may ask for.
pub(crate) struct Reference {
    tokenizer: tokenizers::Tokenizer,
}

impl Reference {
    pub(crate) fn load(json: &str) -> Result<Self, LoadError> {
        let mut tokenizer: tokenizers::Tokenizer = json
            .parse()
            .map_err(|error| LoadError::new(format!("tokenizer.json: {error}")))?;
        tokenizer
            .with_truncation(None)
            .map_err(|error| LoadError::new(error.to_string()))?;
        tokenizer.with_padding(None);
        Ok(Self { tokenizer })
    }

    pub(crate) fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, EncodeError> {
        let encode = || self.tokenizer.encode_fast(text, add_special);
        match catch_unwind(AssertUnwindSafe(encode)) {
            Ok(Ok(encoding)) => Ok(encoding.get_ids().to_vec()),
            Ok(Err(error)) => Err(EncodeError::new(error.to_string())),
            Err(_) => Err(EncodeError::new("the tokenizer failed on it")),
        }
    }

    pub(crate) fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        self.tokenizer.decode(ids, skip_special).unwrap_or_default()
    }
}

/// `tokenizers`' own incremental decoding.
pub(crate) struct ReferenceStream {
    reference: Arc<Reference>,
    skip_special: bool,
    ids: Vec<u32>,
    prefix: String,
    prefix_index: usize,
}

impl ReferenceStream {
    pub(crate) fn new(reference: Arc<Reference>, prompt: &[u32], skip_special: bool) -> Self {
        // The text of a token depends on few before it.
        const CONTEXT: usize = 16;
        let ids = prompt[prompt.len().saturating_sub(CONTEXT)..].to_vec();
        Self {
            reference,
            skip_special,
            ids,
            prefix: String::new(),
            prefix_index: 0,
        }
    }

    pub(crate) fn push(&mut self, id: u32, out: &mut String) {
        let step = tokenizers::tokenizer::step_decode_stream(
            &self.reference.tokenizer,
            vec![id],
            self.skip_special,
            &mut self.ids,
            &mut self.prefix,
            &mut self.prefix_index,
        );
        match step {
            Ok(text) => out.push_str(&text.unwrap_or_default()),
            // The decoder rewrote text that is already out: go on from this token.
            Err(_) => {
                self.ids.clear();
                self.prefix.clear();
                self.prefix_index = 0;
                out.push_str(&self.reference.decode(&[id], self.skip_special));
            }
        }
    }

    pub(crate) fn finish(&mut self, out: &mut String) {
        let text = self.reference.decode(&self.ids, self.skip_special);
        out.push_str(text.strip_prefix(&self.prefix).unwrap_or_default());
        self.ids.clear();
        self.prefix.clear();
        self.prefix_index = 0;
    }
}
