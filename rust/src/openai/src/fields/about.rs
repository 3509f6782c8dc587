// SPDX-License-Identifier: Apache-2.0

//! What a request says about itself.

use super::rule::{
    Field, Routes as R,
    Rule::{Id, Int, NoEffect, Text},
    row,
};
use crate::limits::*;

/// What a request says about itself.
pub(super) static FIELDS: &[Field] = &[
    row(
        "cache_salt",
        R::REQUEST,
        "Keeps prefix-cache entries of different tenants apart.",
        Id(MAX_ID_BYTES, |d, v| d.options.cache_salt = Some(v)),
    ),
    row("metadata", R::BOTH, "Notes of the client's own.", NoEffect),
    row(
        "model",
        R::REQUEST,
        "A served name; see `/v1/models`.",
        Text(4096, |d, v| d.options.model = Some(v)),
    ),
    row(
        "parallel_tool_calls",
        R::CHAT,
        "Several tool calls in one answer.",
        NoEffect,
    ),
    row(
        "priority",
        R::REQUEST,
        "Lower is earlier; also the header X-Vllm-Priority.",
        Int((-MAX_PRIORITY, MAX_PRIORITY), |d, v| {
            d.options.priority = Some(v as i32)
        }),
    ),
    row("prompt_cache_key", R::BOTH, "A hint for caches.", NoEffect),
    row(
        "request_id",
        R::REQUEST,
        "The client's own id; also the header X-Request-Id.",
        Id(MAX_ID_BYTES, |d, v| d.options.request_id = Some(v)),
    ),
    row(
        "safety_identifier",
        R::BOTH,
        "The client's own user.",
        NoEffect,
    ),
    row(
        "session_id",
        R::REQUEST,
        "Requests of one session are kept together; also the header X-Session-ID.",
        Id(MAX_ID_BYTES, |d, v| d.options.session_id = Some(v)),
    ),
    row("user", R::REQUEST, "The client's own user.", NoEffect),
];
