// SPDX-License-Identifier: Apache-2.0

//! From chat messages to the prompt text a model was trained on.
//!
//! Owns: compiling and running the model's Jinja chat template with the functions, filters and whitespace rules that
//! Hugging Face Transformers gives it, under a bound on work; and fitting message contents to what the template reads.
//!
//! Must not know: sockets, tokens, sampling.

mod deep_stack;
mod dialect;
mod environment;
mod error;
mod input;
mod long_tags;
mod python_json;
mod template;
mod values;

pub use deep_stack::on_deep_stack;
pub use error::{CompileError, RenderError};
pub use input::{ChatInput, Content, ContentPart, Message};
pub use template::{ChatTemplate, ContentFormat, TemplateTokens};
