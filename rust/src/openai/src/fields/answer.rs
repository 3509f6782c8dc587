// SPDX-License-Identifier: Apache-2.0

//! What an answer carries, and how it is delivered.

use super::rule::Neutral::Literals;
use super::rule::{
    Field, Neutral, Routes as R,
    Rule::{Bool, Candidates, Ids, Int, Json, NoEffect, Refused},
    row,
};
use crate::chat;
use crate::limits::*;

const OFF: Neutral = Literals(&["false"]);

/// What an answer carries, and how it is delivered.
pub(super) static FIELDS: &[Field] = &[
    row(
        "detokenize",
        R::SAMPLING,
        "Token ids are all that is answered.",
        NoEffect,
    ),
    row(
        "echo",
        R::CHAT,
        "The prompt's text stands before the answer, with its log probabilities if the answer has them.",
        Refused(
            OFF,
            "a conversation is not repeated; `continue_final_message` goes on in the last message",
        ),
    ),
    row(
        "echo",
        R::COMPLETIONS,
        "The prompt's text stands before the answer, with its log probabilities if the answer has them.",
        Bool(|d, v| d.options.echo = v),
    ),
    row(
        "include_stop_str_in_output",
        R::SAMPLED,
        "The stop string or stop token stays in the text.",
        Bool(|d, v| d.options.sampling.include_stop_str_in_output = v),
    ),
    row(
        "logprob_token_ids",
        R::SAMPLED,
        "Tokens whose log probabilities stand in place of the likeliest candidates, in this order; needs `logprobs` without candidates.",
        Ids(MAX_LOGPROB_TOKEN_IDS, |d, v| {
            d.options.logprob_token_ids = v
        }),
    ),
    row(
        "logprobs",
        R::CHAT,
        "Log probabilities of the generated tokens: for chat true or false, otherwise the number of candidates per token.",
        Bool(|d, v| d.want_logprobs = v),
    ),
    row(
        "logprobs",
        R::COUNTED_LOGPROBS,
        "Log probabilities of the generated tokens: for chat true or false, otherwise the number of candidates per token.",
        Candidates(|d, v| d.options.logprobs = Some(v)),
    ),
    row(
        "output_kind",
        R::SAMPLING,
        "How outputs are grouped on their way; the answer does not depend on it.",
        NoEffect,
    ),
    row(
        "prompt_logprobs",
        R::SAMPLED,
        "Candidates per prompt token in the answer's `prompt_logprobs`.",
        Candidates(|d, v| d.options.prompt_logprobs = Some(v)),
    ),
    row(
        "return_token_ids",
        R::BOTH,
        "The answer carries the token ids of prompt and choices.",
        Bool(|d, v| d.options.return_token_ids = v),
    ),
    row(
        "return_tokens_as_token_ids",
        R::REQUEST,
        "Tokens in log probabilities read `token_id:N`.",
        Bool(|d, v| d.options.return_tokens_as_token_ids = v),
    ),
    row(
        "skip_special_tokens",
        R::SAMPLED,
        "Special tokens do not show in the text; true by default.",
        Bool(|d, v| d.options.sampling.skip_special_tokens = Some(v)),
    ),
    row(
        "stream",
        R::REQUEST,
        "Server-sent events instead of one body.",
        Bool(|d, v| d.options.stream = v),
    ),
    row(
        "stream_interval",
        R::REQUEST,
        "Tokens per event after the first one.",
        Int((1, MAX_STREAM_INTERVAL), |d, v| {
            d.options.stream_interval = Some(v as u32)
        }),
    ),
    row(
        "stream_options",
        R::REQUEST,
        "`include_usage`: a last event carries the usage; `continuous_usage_stats`: every event does.",
        Json("an object of stream options", chat::read_stream_options),
    ),
    row(
        "top_logprobs",
        R::CHAT,
        "Candidates per generated token; needs `logprobs`.",
        Candidates(|d, v| d.top_logprobs = Some(v)),
    ),
];
