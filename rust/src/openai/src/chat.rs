// SPDX-License-Identifier: Apache-2.0

//! `POST /v1/chat/completions`: the request.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::body;
use crate::capped;
use crate::error::ApiError;
use crate::fields::Routes;
use crate::limits::{MAX_DOCUMENTS, MAX_MEMBERS};
use crate::messages::Message;
use crate::request::{Draft, Options, StreamOptions};

/// A validated chat request.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    /// Fields shared with completions.
    pub options: Options,
    /// The conversation, at least one message.
    pub messages: Vec<Message>,
    /// The template opens the assistant's turn.
    pub add_generation_prompt: bool,
    /// The last message is continued instead of answered.
    pub continue_final_message: bool,
    /// Documents for the template.
    pub documents: Vec<Value>,
    /// A template in place of the model's own.
    pub chat_template: Option<String>,
    /// Variables for the template.
    pub template_kwargs: Map<String, Value>,
}

impl ChatRequest {
    /// Reads and validates a body.
    pub fn from_json(body: &[u8]) -> Result<Self, ApiError> {
        let mut draft = body::read(body, Routes::CHAT)?;
        let messages = draft.messages.take().ok_or_else(|| {
            ApiError::field(
                "messages",
                "`messages` is missing: send a list of at least one message.",
            )
        })?;
        let max_tokens = draft
            .max_completion_tokens
            .or(draft.options.sampling.max_tokens);
        draft.options.sampling.max_tokens = max_tokens;
        draft.options.logprobs = logprobs(&draft)?;
        draft.options.check()?;
        let add_generation_prompt = generation_prompt(&draft)?;
        Ok(Self {
            options: draft.options,
            messages,
            add_generation_prompt,
            continue_final_message: draft.continue_final_message,
            documents: draft.documents,
            chat_template: draft.chat_template,
            template_kwargs: draft.template_kwargs,
        })
    }
}

fn logprobs(draft: &Draft) -> Result<Option<u32>, ApiError> {
    if !draft.want_logprobs && draft.top_logprobs.is_some_and(|k| k > 0) {
        return Err(ApiError::field(
            "top_logprobs",
            "`top_logprobs` needs `logprobs: true`.",
        ));
    }
    Ok(draft.want_logprobs.then(|| draft.top_logprobs.unwrap_or(0)))
}

/// A message that is continued must not be followed by a new turn.
fn generation_prompt(draft: &Draft) -> Result<bool, ApiError> {
    if draft.continue_final_message && draft.add_generation_prompt == Some(true) {
        return Err(ApiError::field(
            "continue_final_message",
            "`continue_final_message` and `add_generation_prompt` exclude each other: send `add_generation_prompt: false`.",
        ));
    }
    Ok(draft
        .add_generation_prompt
        .unwrap_or(!draft.continue_final_message))
}

pub(crate) fn read_documents(
    draft: &mut Draft,
    path: &str,
    raw: &RawValue,
) -> Result<(), ApiError> {
    let documents: Vec<Map<String, Value>> =
        capped::list(path, raw, MAX_DOCUMENTS, "a list of objects")?;
    draft.documents = documents.into_iter().map(Value::from).collect();
    Ok(())
}

/// What the server itself tells a template or its renderer.
const RESERVED: &[&str] = &[
    "add_generation_prompt",
    "chat_template",
    "continue_final_message",
    "conversation",
    "documents",
    "messages",
    "tokenize",
    "tools",
];

pub(crate) fn read_template_kwargs(
    draft: &mut Draft,
    path: &str,
    raw: &RawValue,
) -> Result<(), ApiError> {
    let variables: Map<String, Value> = body::parse(path, raw, "an object of template variables")?;
    if let Some(name) = RESERVED.iter().find(|name| variables.contains_key(**name)) {
        let path = format!("{path}.{name}");
        let message = format!(
            "`{path}` is reserved: it is set by the request's own fields, not by variables."
        );
        return Err(ApiError::field(path, message));
    }
    draft.template_kwargs = variables;
    Ok(())
}

const STREAM_OPTIONS: [&str; 3] = [
    "include_usage",
    "continuous_usage_stats",
    "include_obfuscation",
];

/// `include_obfuscation` is accepted: chunks are never padded.
pub(crate) fn read_stream_options(
    draft: &mut Draft,
    path: &str,
    raw: &RawValue,
) -> Result<(), ApiError> {
    let members = capped::object(path, raw, MAX_MEMBERS, "an object of stream options")?;
    let flag = |name: &str| match members.get(name) {
        Some(raw) if raw.get() != "null" => {
            body::parse(&format!("{path}.{name}"), raw, "true or false")
        }
        _ => Ok(false),
    };
    draft.options.stream_options = Some(StreamOptions {
        include_usage: flag("include_usage")?,
        continuous_usage_stats: flag("continuous_usage_stats")?,
    });
    body::note_unknown_members(draft, path, &members, &STREAM_OPTIONS);
    Ok(())
}

#[cfg(test)]
mod tests;
