// SPDX-License-Identifier: Apache-2.0

//! Why a measurement could not be made. A failed request is no such reason: the report counts it.

use std::io;

/// Why a measurement could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The server's address can't be used.
    #[error("--base-url {0:?}: expected http://HOST[:PORT] (TLS is not supported)")]
    Url(String),
    /// The server doesn't answer.
    #[error("{address}: {source}")]
    Connect {
        /// Address tried.
        address: String,
        /// Cause.
        source: io::Error,
    },
    /// The server names no model and none was given.
    #[error("GET /v1/models names no model: {0}; name one with --model")]
    NoModel(String),
    /// No process with this id.
    #[error("--pid {0}: no such process")]
    NoProcess(u32),
    /// An option has no meaning.
    #[error("{0}")]
    Option(&'static str),
    /// The result can't be written.
    #[error("{path}: {source}")]
    Write {
        /// File.
        path: String,
        /// Cause.
        source: io::Error,
    },
    /// No runtime.
    #[error("no runtime: {0}")]
    Runtime(io::Error),
}
