// SPDX-License-Identifier: Apache-2.0

//! Answers in one form, however they were delivered.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Fixture;
use super::client::post;

pub const CHAT: &str = "/v1/chat/completions";
pub const COMPLETIONS: &str = "/v1/completions";

/// A request with further members.
pub fn body(path: &str, more: &Value) -> Value {
    let mut body = match path {
        CHAT => json!({"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}),
        _ => json!({"model": "tiny", "prompt": "hi"}),
    };
    let more = more.as_object().expect("an object").clone();
    body.as_object_mut().expect("an object").extend(more);
    body
}

/// What a choice looks like, however it was delivered.
#[derive(Debug, Default, PartialEq)]
pub struct Choice {
    pub text: String,
    pub finish: Vec<Value>,
    pub stop: Value,
    pub logprobs: Vec<Value>,
    pub prompt_logprobs: Value,
    pub ids: Vec<Value>,
}

#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    pub choices: BTreeMap<u64, Choice>,
    pub usage: Value,
    /// Chat: beside the choices.
    pub prompt_logprobs: Value,
}

/// The entries of a choice's log probabilities, one per token.
pub fn entries(logprobs: &Value) -> Vec<Value> {
    if let Some(content) = logprobs["content"].as_array() {
        return content.clone();
    }
    let Some(tokens) = logprobs["tokens"].as_array() else {
        return Vec::new();
    };
    let names = ["tokens", "token_logprobs", "top_logprobs", "text_offset"];
    (0..tokens.len())
        .map(|at| {
            names
                .iter()
                .map(|name| logprobs[name][at].clone())
                .collect()
        })
        .collect()
}

pub fn add(answer: &mut Answer, choice: &Value) {
    let into = answer
        .choices
        .entry(choice["index"].as_u64().expect("an index"))
        .or_default();
    let text = [
        &choice["text"],
        &choice["delta"]["content"],
        &choice["message"]["content"],
    ];
    into.text.extend(text.into_iter().filter_map(Value::as_str));
    if !choice["finish_reason"].is_null() {
        into.finish.push(choice["finish_reason"].clone());
        into.stop = choice["stop_reason"].clone();
    }
    if let Some(prompt) = choice.get("prompt_logprobs") {
        into.prompt_logprobs = prompt.clone();
    }
    into.logprobs.extend(entries(&choice["logprobs"]));
    into.ids.extend(
        choice["token_ids"]
            .as_array()
            .into_iter()
            .flatten()
            .cloned(),
    );
}

pub fn folded(server: &Fixture, path: &str, more: Value) -> Answer {
    let reply = post(server.address, path, &body(path, &more));
    assert_eq!(reply.status, 200, "{}", reply.text());
    let json = reply.json();
    let mut answer = Answer {
        usage: json["usage"].clone(),
        prompt_logprobs: json["prompt_logprobs"].clone(),
        ..Answer::default()
    };
    json["choices"]
        .as_array()
        .expect("choices")
        .iter()
        .for_each(|choice| add(&mut answer, choice));
    answer
}

pub fn streamed(server: &Fixture, path: &str, mut more: Value) -> Answer {
    more["stream"] = true.into();
    more["stream_options"] = json!({"include_usage": true});
    let events = post(server.address, path, &body(path, &more)).events();
    let mut answer = Answer::default();
    for event in &events {
        assert!(event.get("error").is_none(), "{event}");
        if let Some(prompt) = event.get("prompt_logprobs") {
            answer.prompt_logprobs = prompt.clone();
        }
        event["choices"]
            .as_array()
            .expect("choices")
            .iter()
            .for_each(|choice| add(&mut answer, choice));
    }
    answer.usage = events.last().expect("a usage chunk")["usage"].clone();
    answer
}

pub fn both(server: &Fixture, path: &str, more: Value) -> Answer {
    let (whole, stream) = (
        folded(server, path, more.clone()),
        streamed(server, path, more),
    );
    assert_eq!(whole, stream);
    for choice in whole.choices.values() {
        assert_eq!(choice.finish.len(), 1, "every choice ends once: {choice:?}");
    }
    whole
}
