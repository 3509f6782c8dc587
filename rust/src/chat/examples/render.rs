// SPDX-License-Identifier: Apache-2.0

//! Renders the conversations on standard input, for `tests/parity`.
//!
//! A line in is `{"template": TEXT, "tokens": {"bos_token": TEXT, ...}, "cases": [{"messages": [...],
//! "add_generation_prompt": BOOL, "template_kwargs": {...}}]}`. A line out says in which `format` the template reads
//! content and how each case ended: `{"rendered": TEXT}`, `{"refused": TEXT}` (the template's own words) or
//! `{"failed": TEXT}`; or only `{"broken": TEXT}` for a template that does not compile.

use std::io::{self, BufRead, Write};

use serde_json::{Value, json};
use vllm_chat::{
    ChatInput, ChatTemplate, Content, ContentPart, Message, RenderError, TemplateTokens,
};

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let given = serde_json::from_str(&line?)?;
        writeln!(out, "{}", answer(&given))?;
    }
    Ok(())
}

fn answer(given: &Value) -> Value {
    let token = |name: &str| given["tokens"][name].as_str().map(str::to_owned);
    let tokens = TemplateTokens {
        bos: token("bos_token"),
        eos: token("eos_token"),
        unk: token("unk_token"),
        pad: token("pad_token"),
    };
    let source = given["template"].as_str().unwrap_or_default();
    match ChatTemplate::compile(source, tokens) {
        Err(error) => json!({"broken": error.to_string()}),
        Ok(template) => {
            let cases = given["cases"].as_array().into_iter().flatten();
            let cases: Vec<_> = cases.map(|case| render(&template, case)).collect();
            let format = format!("{:?}", template.content_format()).to_lowercase();
            json!({"format": format, "cases": cases})
        }
    }
}

fn render(template: &ChatTemplate, case: &Value) -> Value {
    let messages = case["messages"].as_array().into_iter().flatten();
    let messages: Vec<_> = messages.map(message).collect();
    let input = ChatInput {
        messages: &messages,
        add_generation_prompt: case["add_generation_prompt"] == true,
        template_kwargs: case["template_kwargs"].as_object(),
        ..ChatInput::default()
    };
    match template.render(&input) {
        Ok(prompt) => json!({"rendered": prompt}),
        Err(RenderError::Refused { message }) => json!({"refused": message}),
        Err(error) => json!({"failed": error.to_string()}),
    }
}

fn message(json: &Value) -> Message {
    let mut extra = json.as_object().cloned().unwrap_or_default();
    let role = extra.shift_remove("role").unwrap_or_default();
    let content = match extra.shift_remove("content") {
        Some(Value::String(text)) => Content::Text(text),
        Some(Value::Array(parts)) => Content::Parts(parts.iter().map(part).collect()),
        _ => Content::None,
    };
    Message {
        role: role.as_str().unwrap_or_default().to_owned(),
        content,
        extra,
    }
}

fn part(json: &Value) -> ContentPart {
    ContentPart::Text(json["text"].as_str().unwrap_or_default().to_owned())
}
