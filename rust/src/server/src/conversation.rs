// SPDX-License-Identifier: Apache-2.0

//! What a template is rendered with, taken out of a request.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use vllm_chat::{ChatInput, ChatTemplate, Content, ContentPart, Message, RenderError};
use vllm_openai::{ApiError, ChatRequest, messages};

/// What a message, or a value of one, costs a template beside its text: as much as so many bytes of text.
const VALUE_WEIGHT: usize = 64;

/// The messages of a request, and all else that its template reads.
#[derive(Serialize, Deserialize)]
pub struct Conversation {
    messages: Vec<Message>,
    documents: Vec<Value>,
    kwargs: Map<String, Value>,
    add_generation_prompt: bool,
    continue_final_message: bool,
}

impl Conversation {
    /// Takes it out of the request.
    pub fn of(request: &mut ChatRequest) -> Self {
        let messages = std::mem::take(&mut request.messages);
        Self {
            messages: messages.into_iter().map(message).collect(),
            documents: std::mem::take(&mut request.documents),
            kwargs: std::mem::take(&mut request.template_kwargs),
            add_generation_prompt: request.add_generation_prompt,
            continue_final_message: request.continue_final_message,
        }
    }

    /// What it costs a template, in bytes of text: all that reaches the template counts.
    pub fn weight(&self) -> usize {
        let extra = |message: &Message| message.extra.values().map(weight).sum::<usize>();
        let of_message = |message: &Message| {
            VALUE_WEIGHT + message.role.len() + content_bytes(&message.content) + extra(message)
        };
        let messages: usize = self.messages.iter().map(of_message).sum();
        let documents: usize = self.documents.iter().map(weight).sum();
        let kwargs: usize = self.kwargs.values().map(weight).sum();
        messages + documents + kwargs
    }

    /// The text of the prompt.
    ///
    /// # Errors
    ///
    /// For the client, if the template refuses the conversation, fails on it, or takes too long.
    pub fn render(&self, template: &ChatTemplate) -> Result<String, ApiError> {
        let input = ChatInput {
            messages: &self.messages,
            add_generation_prompt: self.add_generation_prompt,
            continue_final_message: self.continue_final_message,
            documents: (!self.documents.is_empty()).then_some(&self.documents),
            template_kwargs: (!self.kwargs.is_empty()).then_some(&self.kwargs),
            ..ChatInput::default()
        };
        let mut text = template.render(&input);
        if let (Err(RenderError::Failed { .. }), Some(messages)) = (&text, self.with_texts()) {
            text = template.render(&ChatInput {
                messages: &messages,
                ..input
            });
        }
        text.map_err(|error| {
            let field = match error {
                RenderError::CannotContinue { .. } => "continue_final_message",
                _ => "messages",
            };
            ApiError::field(field, sentence(&error.to_string()))
        })
    }

    /// The messages with an empty text where there is none; `None` when each has one.
    fn with_texts(&self) -> Option<Vec<Message>> {
        let silent = |message: &Message| message.content == Content::None;
        let some = self.messages.iter().any(silent);
        some.then(|| self.messages.iter().map(with_text).collect())
    }
}

/// An assistant message that only called tools has no content, which some templates ask for, and others cannot join
/// with their own text.
fn with_text(message: &Message) -> Message {
    let mut message = message.clone();
    if message.content == Content::None {
        message.content = Content::Text(String::new());
    }
    message
}

fn content_bytes(content: &Content) -> usize {
    match content {
        Content::None => 0,
        Content::Text(text) => text.len(),
        Content::Parts(parts) => parts.iter().map(|ContentPart::Text(text)| text.len()).sum(),
    }
}

/// What a value costs a template, in bytes of text.
fn weight(value: &Value) -> usize {
    VALUE_WEIGHT
        + match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(weight).sum(),
            Value::Object(members) => {
                let of_member = |(name, value): (&String, &Value)| name.len() + weight(value);
                members.iter().map(of_member).sum()
            }
            _ => 0,
        }
}

fn message(message: messages::Message) -> Message {
    let mut out = Message {
        role: message.role,
        // Without content and without calls, nothing was said.
        content: match content(message.content) {
            Content::None if message.tool_calls.is_empty() => Content::Text(String::new()),
            content => content,
        },
        ..Message::default()
    };
    let mut add = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            out.extra.insert(name.to_owned(), value);
        }
    };
    add("name", message.name.map(Into::into));
    add("tool_call_id", message.tool_call_id.map(Into::into));
    add(
        "tool_calls",
        (!message.tool_calls.is_empty()).then(|| message.tool_calls.into()),
    );
    // Templates know it by either name.
    add("reasoning", message.reasoning.clone().map(Into::into));
    add("reasoning_content", message.reasoning.map(Into::into));
    out
}

fn content(content: Option<messages::Content>) -> Content {
    match content {
        None => Content::None,
        Some(messages::Content::Text(text)) => Content::Text(text),
        Some(messages::Content::Parts(parts)) => {
            Content::Parts(parts.into_iter().map(ContentPart::Text).collect())
        }
    }
}

/// Upper case at the start, a full stop at the end.
pub fn sentence(text: &str) -> String {
    let mut rest = text.chars();
    let first = rest.next().map(|first| first.to_ascii_uppercase());
    let end = if text.ends_with(['.', '!', '?']) {
        ""
    } else {
        "."
    };
    first.into_iter().chain(rest).collect::<String>() + end
}
