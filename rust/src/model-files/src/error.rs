// SPDX-License-Identifier: Apache-2.0

//! Why a model could not be opened. Every message names the file, the fault and the remedy.

use std::path::PathBuf;

/// Why a model could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The path is neither a folder nor a GGUF file.
    #[error(
        "{path}: no model here: expected a Hugging Face directory (with config.json and tokenizer.json) or a .gguf file"
    )]
    NotAModel {
        /// What was asked for.
        path: PathBuf,
    },
    /// A file could not be read.
    #[error("{path}: cannot be read: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: std::io::Error,
    },
    /// A file that the model needs is absent.
    #[error("{path}: missing; {remedy}")]
    Missing {
        /// The file.
        path: PathBuf,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A JSON file does not parse or has another shape than expected.
    #[error("{path}: not valid: {reason}")]
    Json {
        /// The file.
        path: PathBuf,
        /// Position and kind of the fault.
        reason: String,
    },
    /// The tokenizer inside a GGUF file is of a kind that is not supported.
    #[error("{path}: tokenizer not supported: {reason}")]
    UnsupportedTokenizer {
        /// The file.
        path: PathBuf,
        /// The kind, by name, and what is supported.
        reason: String,
    },
}
