// SPDX-License-Identifier: Apache-2.0

//! Request and response types of the OpenAI-compatible surface, and their validation.
//!
//! Owns: what a client may send, the limits of every field, what an answer looks like, the texts of
//! the errors. One table ([`fields::all`]) says for every field of chat and completions what it
//! accepts and whether it is served. Must not know: sockets, the engine, tokens, templates.

pub mod body;
mod capped;
pub mod chat;
pub mod completions;
pub mod error;
pub mod fields;
pub mod generate;
pub mod limits;
pub mod messages;
pub mod request;
pub mod response;
pub mod schema;
pub mod tokenize;

pub use chat::ChatRequest;
pub use completions::{CompletionRequest, Prompt};
pub use error::ApiError;
pub use generate::GenerateRequest;
pub use messages::{Content, Message};
pub use request::{Options, RepetitionDetection, Sampling, StreamOptions};
pub use response::Usage;
