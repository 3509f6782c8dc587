// SPDX-License-Identifier: Apache-2.0

//! Why a model could not be opened. Every message names the file, the fault and the remedy; the cause is part of the
//! message, so there is no chain of sources to print after it.

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
    #[error("{path}: cannot be read: {cause}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        cause: std::io::Error,
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
    /// The file is not GGUF, is cut short, or breaks the format.
    #[error("{path}: {cause}")]
    Gguf {
        /// The file.
        path: PathBuf,
        /// The fault.
        cause: crate::GgufError,
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
