// SPDX-License-Identifier: Apache-2.0

//! Requests' JSON as the values that templates work on. Keys keep the client's order.

use minijinja::Value;
use serde_json::Value as Json;

use crate::input::{Content, ContentPart, Message};
use crate::template::ContentFormat;

pub(crate) fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(flag) => Value::from(*flag),
        Json::Number(number) => from_number(number),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(from_json).collect(),
        Json::Object(entries) => Value::from_pairs(
            entries
                .iter()
                .map(|(key, value)| (key.as_str(), from_json(value))),
        ),
    }
}

fn from_number(number: &serde_json::Number) -> Value {
    if let Some(number) = number.as_i64() {
        Value::from(number)
    } else if let Some(number) = number.as_u64() {
        Value::from(number)
    } else {
        Value::from(number.as_f64().unwrap_or(f64::NAN))
    }
}

/// A message as the mapping that templates read.
pub(crate) fn from_message(message: &Message, format: ContentFormat) -> Value {
    let own = [
        ("role", Value::from(message.role.as_str())),
        ("content", from_content(&message.content, format)),
    ];
    let extra = message
        .extra
        .iter()
        .map(|(key, value)| (key.as_str(), from_json(value)));
    Value::from_pairs(own.into_iter().chain(extra))
}

fn from_content(content: &Content, format: ContentFormat) -> Value {
    match (content, format) {
        (Content::None, _) => Value::from(()),
        (Content::Text(text), ContentFormat::Parts) => [part(text)].into_iter().collect(),
        (Content::Text(text), _) => Value::from(text.as_str()),
        (Content::Parts(parts), ContentFormat::String) => Value::from(joined(parts)),
        (Content::Parts(parts), _) => parts
            .iter()
            .map(|ContentPart::Text(text)| part(text))
            .collect(),
    }
}

fn part(text: &str) -> Value {
    Value::from_pairs([("type", Value::from("text")), ("text", Value::from(text))])
}

/// Text parts, a line each.
fn joined(parts: &[ContentPart]) -> String {
    let texts: Vec<&str> = parts
        .iter()
        .map(|ContentPart::Text(text)| text.as_str())
        .collect();
    texts.join("\n")
}
