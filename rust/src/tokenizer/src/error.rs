// SPDX-License-Identifier: Apache-2.0

//! Why a tokenizer could not be loaded or a text not be encoded.

/// The tokenizer's description cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the model's tokenizer cannot be used: {message}")]
pub struct LoadError {
    message: String,
}

impl LoadError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }
}

/// A text that the tokenizer cannot express.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the text cannot be tokenized: {message}")]
pub struct EncodeError {
    message: String,
}

impl EncodeError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }
}
