// SPDX-License-Identifier: Apache-2.0

//! What a template is rendered with.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One rendering: the conversation and everything beside it that a template may read.
#[derive(Clone, Debug, Default)]
pub struct ChatInput<'a> {
    /// The conversation, oldest message first.
    pub messages: &'a [Message],
    /// Tool definitions as the client sent them; `none` to the template where there are none, as Transformers passes it.
    pub tools: Option<&'a [Value]>,
    /// Documents for retrieval; `none` to the template where there are none.
    pub documents: Option<&'a [Value]>,
    /// Whether the prompt ends with the opening of an assistant message.
    pub add_generation_prompt: bool,
    /// Whether the prompt ends inside the last message, so that the model goes on writing it.
    pub continue_final_message: bool,
    /// Further variables for the template, such as `enable_thinking`. They win over every variable above.
    pub template_kwargs: Option<&'a Map<String, Value>>,
}

/// One message of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool`, `developer` or what else the template knows.
    pub role: String,
    /// What was said.
    pub content: Content,
    /// Every other key a template may read, in the client's order: `name`, `tool_calls` (arguments already parsed
    /// into objects), `tool_call_id`, `reasoning_content`, ...
    pub extra: Map<String, Value>,
}

/// Content of a message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Content {
    /// No content; the template sees `none`.
    #[default]
    None,
    /// Plain text.
    Text(String),
    /// A list of parts.
    Parts(Vec<ContentPart>),
}

/// One part of a message's content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ContentPart {
    /// `{"type": "text", "text": ...}`
    Text(String),
}

impl Message {
    /// A message that is nothing but text.
    pub fn text(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: Content::Text(content.into()),
            extra: Map::new(),
        }
    }
}
