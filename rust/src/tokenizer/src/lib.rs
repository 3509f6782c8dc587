// SPDX-License-Identifier: Apache-2.0

//! Text to token ids and back: encoding, incremental detokenization, stop strings.
//!
//! Owns: the encoder of byte-level BPE, the choice between it, `fastokens` and `tokenizers`, the table token id -> bytes, the UTF-8 machine that
//! turns a stream of ids into text, and the search for stop strings in a stream of text.
//!
//! Must not know: chat templates, requests, sockets.

mod bound;
mod byte_level;
mod description;
mod detokenizer;
mod encoder;
mod error;
mod reference;
mod stop;
mod table;
mod tokenizer;

pub use detokenizer::Detokenizer;
pub use error::{EncodeError, LoadError};
pub use stop::{StopMatch, StopMatcher, StopStrings};
pub use tokenizer::Tokenizer;
