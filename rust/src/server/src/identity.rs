// SPDX-License-Identifier: Apache-2.0

//! Ids of requests: the client's own, or a random one.

use http::HeaderMap;
use vllm_openai::limits::MAX_ID_BYTES;

/// Header that carries a request's id in both directions.
pub const REQUEST_ID: &str = "x-request-id";

/// The id for an answer: `prefix`, then the client's id or 32 random hexadecimal digits.
pub fn request_id(prefix: &str, own: Option<&str>, headers: &HeaderMap) -> String {
    match own.or_else(|| header(headers)) {
        Some(id) => format!("{prefix}{id}"),
        None => format!("{prefix}{:032x}", fastrand::u128(..)),
    }
}

/// The client's id, when it is one that can be shown.
fn header(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(REQUEST_ID)?.to_str().ok()?;
    (!value.is_empty() && value.len() <= MAX_ID_BYTES).then_some(value)
}
