// SPDX-License-Identifier: Apache-2.0

//! The messages of a chat request: roles, text parts, and earlier tool calls.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::body;
use crate::capped;
use crate::error::{ApiError, shorten};
use crate::limits::MAX_MESSAGES;
use crate::request::Draft;

/// Roles that templates know.
const ROLES: &[&str] = &["system", "developer", "user", "assistant", "tool"];
/// Types of parts that carry text, and the member that holds it.
const TEXT_PARTS: &[(&str, &str)] = &[
    ("text", "text"),
    ("input_text", "text"),
    ("output_text", "text"),
    ("refusal", "refusal"),
];

/// Members of messages and of parts that clients send back as they got them, and that say nothing to a model here.
const UNREAD: &[&str] = &["refusal", "annotations", "audio", "function_call"];
const UNREAD_OF_PARTS: &[&str] = &["annotations", "logprobs", "cache_control"];

/// Content of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A plain string.
    Text(String),
    /// The texts of a list of parts.
    Parts(Vec<String>),
}

impl Content {
    /// The whole text; parts are joined by a line feed.
    pub fn to_text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Parts(parts) => parts.join("\n"),
        }
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: String,
    /// What is said; absent for an assistant message that only called tools.
    pub content: Option<Content>,
    /// Name of the speaker.
    pub name: Option<String>,
    /// The call that a tool message answers.
    pub tool_call_id: Option<String>,
    /// Calls the assistant made earlier, arguments as objects.
    pub tool_calls: Vec<Value>,
    /// What the assistant thought earlier.
    pub reasoning: Option<String>,
}

/// Reads `messages`.
pub(crate) fn read(draft: &mut Draft, path: &str, raw: &RawValue) -> Result<(), ApiError> {
    let values: Vec<Value> = capped::list(path, raw, MAX_MESSAGES, "a list of messages")?;
    if values.is_empty() {
        return Err(ApiError::field(
            path,
            "`messages` must have at least one message.",
        ));
    }
    let mut messages = Vec::with_capacity(values.len());
    for (i, value) in values.into_iter().enumerate() {
        messages.push(message(draft, &format!("{path}[{i}]"), value)?);
    }
    draft.messages = Some(messages);
    Ok(())
}

fn message(draft: &mut Draft, path: &str, value: Value) -> Result<Message, ApiError> {
    let Value::Object(mut map) = value else {
        return Err(wrong(path, "an object", &value));
    };
    let role = role(path, &mut map)?;
    let content = match map.remove("content") {
        None | Some(Value::Null) => None,
        Some(value) => Some(content(draft, &format!("{path}.content"), value)?),
    };
    let message = Message {
        content,
        name: optional_text(path, &mut map, "name")?,
        tool_call_id: optional_text(path, &mut map, "tool_call_id")?,
        tool_calls: tool_calls(&format!("{path}.tool_calls"), map.remove("tool_calls"))?,
        reasoning: reasoning(path, &mut map)?,
        role,
    };
    require_content(path, &message)?;
    map.retain(|name, _| !UNREAD.contains(&name.as_str()));
    note_rest(draft, path, &map);
    Ok(message)
}

/// What is left of an object when all that is known was taken out.
fn note_rest(draft: &mut Draft, path: &str, rest: &Map<String, Value>) {
    for (name, _) in rest.iter().filter(|(_, value)| !value.is_null()) {
        body::note_unknown(draft, &format!("{path}.{name}"));
    }
}

fn role(path: &str, map: &mut Map<String, Value>) -> Result<String, ApiError> {
    let path = format!("{path}.role");
    let known = ROLES.join(", ");
    match map.remove("role") {
        Some(Value::String(role)) if ROLES.contains(&role.as_str()) => Ok(role),
        Some(value) => Err(wrong(&path, &format!("one of {known}"), &value)),
        None => Err(ApiError::field(
            &path,
            format!("`{path}` is missing: send one of {known}."),
        )),
    }
}

fn optional_text(
    path: &str,
    map: &mut Map<String, Value>,
    name: &str,
) -> Result<Option<String>, ApiError> {
    match map.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(value) => Err(wrong(&format!("{path}.{name}"), "a string", &value)),
    }
}

fn reasoning(path: &str, map: &mut Map<String, Value>) -> Result<Option<String>, ApiError> {
    let current = optional_text(path, map, "reasoning")?;
    let older = optional_text(path, map, "reasoning_content")?;
    Ok(current.or(older))
}

/// Only an assistant message that called tools may go without content.
fn require_content(path: &str, message: &Message) -> Result<(), ApiError> {
    if message.content.is_some() || message.role == "assistant" {
        return Ok(());
    }
    let path = format!("{path}.content");
    let role = &message.role;
    Err(ApiError::field(
        &path,
        format!("`{path}` is missing: a {role} message needs a string or a list of text parts."),
    ))
}

fn content(draft: &mut Draft, path: &str, value: Value) -> Result<Content, ApiError> {
    match value {
        Value::String(text) => Ok(Content::Text(text)),
        Value::Array(parts) => {
            let read = |(i, value)| part(draft, &format!("{path}[{i}]"), value);
            let texts = parts.into_iter().enumerate().map(read);
            Ok(Content::Parts(texts.collect::<Result<_, _>>()?))
        }
        value => Err(wrong(path, "a string or a list of parts", &value)),
    }
}

fn part(draft: &mut Draft, path: &str, value: Value) -> Result<String, ApiError> {
    let mut map = match value {
        Value::String(text) => return Ok(text),
        Value::Object(map) => map,
        value => return Err(wrong(path, "an object with a `type`", &value)),
    };
    let kind = match map.get("type") {
        Some(Value::String(kind)) => kind.clone(),
        _ => {
            return Err(ApiError::field(
                format!("{path}.type"),
                format!("`{path}.type` must be a string, as \"text\"."),
            ));
        }
    };
    let Some((_, member)) = TEXT_PARTS.iter().find(|(name, _)| *name == kind) else {
        return Err(unserved_part(path, &kind));
    };
    let text = map.remove(*member);
    map.remove("type");
    map.retain(|name, _| !UNREAD_OF_PARTS.contains(&name.as_str()));
    note_rest(draft, path, &map);
    match text {
        Some(Value::String(text)) => Ok(text),
        other => Err(wrong(
            &format!("{path}.{member}"),
            "a string",
            &other.unwrap_or(Value::Null),
        )),
    }
}

fn unserved_part(path: &str, kind: &str) -> ApiError {
    let path = format!("{path}.type");
    let shown = shorten(kind);
    ApiError::field(
        &path,
        format!("`{path}` is \"{shown}\", but this server takes only text parts. Send {{\"type\": \"text\", \"text\": ...}}."),
    )
    .with_code("unsupported_field")
}

/// Earlier calls, their `function.arguments` read from JSON text, as templates expect objects.
fn tool_calls(path: &str, value: Option<Value>) -> Result<Vec<Value>, ApiError> {
    let mut calls = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(calls)) => calls,
        Some(value) => return Err(wrong(path, "a list of tool calls", &value)),
    };
    for (i, call) in calls.iter_mut().enumerate() {
        open_arguments(&format!("{path}[{i}]"), call)?;
    }
    Ok(calls)
}

fn open_arguments(path: &str, call: &mut Value) -> Result<(), ApiError> {
    let path = format!("{path}.function");
    let Some(Value::Object(function)) = call.get_mut("function") else {
        return Err(ApiError::field(
            &path,
            format!("`{path}` must be an object with `name` and `arguments`."),
        ));
    };
    let Some(Value::String(text)) = function.get("arguments") else {
        return Ok(());
    };
    let opened = if text.is_empty() {
        Ok(Value::Object(Map::new()))
    } else {
        serde_json::from_str(text)
    };
    let path = format!("{path}.arguments");
    let arguments = opened
        .map_err(|_| ApiError::field(&path, format!("`{path}` must be JSON text of an object.")))?;
    function.insert("arguments".to_owned(), arguments);
    Ok(())
}

fn wrong(path: &str, expected: &str, value: &Value) -> ApiError {
    body::mismatch(path, &value.to_string(), expected)
}
