// SPDX-License-Identifier: Apache-2.0

//! What the model continues, and how it is rendered.

use super::rule::{
    Field, Routes as R,
    Rule::{Bool, Int, Json, Text},
    row,
};
use crate::limits::MAX_TEMPLATE_BYTES;
use crate::{chat, completions, generate, messages};

/// What the model continues, and how it is rendered.
pub(super) static FIELDS: &[Field] = &[
    row(
        "add_generation_prompt",
        R::CHAT,
        "The template opens the assistant's turn; by default unless the last message is continued.",
        Bool(|d, v| d.add_generation_prompt = Some(v)),
    ),
    row(
        "add_special_tokens",
        R::BOTH,
        "The tokenizer adds its special tokens; by default to a prompt, not to a rendered conversation.",
        Bool(|d, v| d.options.add_special_tokens = Some(v)),
    ),
    row(
        "chat_template",
        R::CHAT,
        "A chat template in place of the model's own; only with --trust-request-chat-template.",
        Text(MAX_TEMPLATE_BYTES, |d, v| d.chat_template = Some(v)),
    ),
    row(
        "chat_template_kwargs",
        R::CHAT,
        "Variables for the chat template.",
        Json(
            "an object of template variables",
            chat::read_template_kwargs,
        ),
    ),
    row(
        "continue_final_message",
        R::CHAT,
        "The last message is continued instead of answered.",
        Bool(|d, v| d.continue_final_message = v),
    ),
    row(
        "documents",
        R::CHAT,
        "Documents for the chat template.",
        Json("a list of objects", chat::read_documents),
    ),
    row(
        "messages",
        R::CHAT,
        "The conversation, oldest message first.",
        Json("a list of messages", messages::read),
    ),
    row(
        "prompt",
        R::COMPLETIONS,
        "What to continue: one or several, as text or as token ids.",
        Json(
            "a string, token ids, or a list of either",
            completions::read_prompt,
        ),
    ),
    row(
        "token_ids",
        R::GENERATE,
        "The prompt.",
        Json("a list of token ids", generate::read_token_ids),
    ),
    row(
        "truncate_prompt_tokens",
        R::BOTH,
        "Only the last tokens of the prompt are used; -1: as many as fit.",
        Int((-1, i32::MAX as i64), |d, v| {
            d.options.truncate_prompt_tokens = Some(v)
        }),
    ),
];
