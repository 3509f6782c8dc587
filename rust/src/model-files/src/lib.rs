// SPDX-License-Identifier: Apache-2.0

//! What a model brings along besides its weights, read from a Hugging Face directory or a GGUF file.
//!
//! Owns: finding and parsing `config.json`, `tokenizer.json`, `tokenizer_config.json`, chat templates,
//! `generation_config.json`, `special_tokens_map.json`, and the metadata section of GGUF. The result is one
//! [`ModelFiles`] value, whichever form the model came in.
//!
//! Must not know: how text is encoded, how templates are rendered, what a request is, what a tensor holds.

mod directory;
mod error;
mod gguf;
mod gguf_tokenizer;
#[cfg(test)]
mod gguf_writer;
mod open;
mod pre_tokenizers;
mod types;

pub use error::Error;
pub use gguf::GgufError;
pub use types::{
    ChatTemplates, GenerationDefaults, ModelFiles, ModelFormat, SpecialToken, SpecialTokens,
};
