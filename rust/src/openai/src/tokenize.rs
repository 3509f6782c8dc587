// SPDX-License-Identifier: Apache-2.0

//! `POST /tokenize` and `POST /detokenize`: the requests.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::body;
use crate::chat::ChatRequest;
use crate::error::ApiError;
use crate::limits::MAX_BODY_BYTES;

/// What to tokenize.
#[derive(Debug, Clone, PartialEq)]
pub enum TokenizeInput {
    /// A text.
    Text(String),
    /// A conversation, rendered by the model's template.
    Chat(Box<ChatRequest>),
}

/// A validated `/tokenize` request.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenizeRequest {
    /// Name of the model asked for.
    pub model: Option<String>,
    /// What to tokenize.
    pub input: TokenizeInput,
    /// The tokenizer adds its special tokens; by default to a text, not to a rendered conversation.
    pub add_special_tokens: Option<bool>,
    /// The answer carries the tokens' texts.
    pub return_token_strs: bool,
}

impl TokenizeRequest {
    /// Reads and validates a body.
    pub fn from_json(body: &[u8]) -> Result<Self, ApiError> {
        let members = body::members(body)?;
        let return_token_strs = optional(&members, "return_token_strs", |n, r| {
            body::parse(n, r, "true or false")
        })?;
        let return_token_strs = return_token_strs.unwrap_or(false);
        if get(&members, "messages").is_some() {
            return Self::chat(ChatRequest::from_json(body)?, return_token_strs);
        }
        let text = optional(&members, "prompt", |n, r| body::text(n, r, MAX_BODY_BYTES))?;
        let text = text.ok_or_else(|| {
            ApiError::field(
                "prompt",
                "`prompt` is missing: send a string, or `messages`.",
            )
        })?;
        Ok(Self {
            model: optional(&members, "model", |n, r| body::parse(n, r, "a string"))?,
            input: TokenizeInput::Text(text),
            add_special_tokens: optional(&members, "add_special_tokens", |n, r| {
                body::parse(n, r, "true or false")
            })?,
            return_token_strs,
        })
    }

    fn chat(request: ChatRequest, return_token_strs: bool) -> Result<Self, ApiError> {
        Ok(Self {
            model: request.options.model.clone(),
            add_special_tokens: request.options.add_special_tokens,
            input: TokenizeInput::Chat(Box::new(request)),
            return_token_strs,
        })
    }
}

/// A validated `/detokenize` request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetokenizeRequest {
    /// Name of the model asked for.
    pub model: Option<String>,
    /// Token ids.
    pub tokens: Vec<u32>,
}

impl DetokenizeRequest {
    /// Reads and validates a body.
    pub fn from_json(body: &[u8]) -> Result<Self, ApiError> {
        let members = body::members(body)?;
        let tokens: Option<Vec<u32>> = optional(&members, "tokens", |n, r| {
            body::parse(n, r, "a list of token ids")
        })?;
        let tokens = tokens.ok_or_else(|| {
            ApiError::field("tokens", "`tokens` is missing: send a list of token ids.")
        })?;
        body::check_ids("tokens", &tokens)?;
        Ok(Self {
            model: optional(&members, "model", |n, r| body::parse(n, r, "a string"))?,
            tokens,
        })
    }
}

type Members<'a> = [(Cow<'a, str>, &'a RawValue)];

/// The last member of that name, as JSON readers usually take it; `null` counts as left out.
fn get<'a>(members: &Members<'a>, name: &str) -> Option<&'a RawValue> {
    let found = members.iter().rev().find(|(n, _)| n == name);
    found.map(|(_, raw)| *raw).filter(|raw| raw.get() != "null")
}

fn optional<'a, T>(
    members: &Members<'a>,
    name: &str,
    read: impl Fn(&str, &'a RawValue) -> Result<T, ApiError>,
) -> Result<Option<T>, ApiError> {
    get(members, name).map(|raw| read(name, raw)).transpose()
}
