// SPDX-License-Identifier: Apache-2.0

//! API keys: `Authorization: Bearer KEY`, compared in constant time.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use vllm_openai::ApiError;

/// Whether a request may go on.
pub fn check(keys: &[String], headers: &HeaderMap) -> Result<(), ApiError> {
    if keys.is_empty() {
        return Ok(());
    }
    let given = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
    let given = given.and_then(bearer).unwrap_or_default();
    // Every key is compared: how long it takes says nothing about which one was close.
    let known = keys
        .iter()
        .fold(false, |known, key| known | equal(key.as_bytes(), given));
    if known {
        return Ok(());
    }
    Err(ApiError::new(
        401,
        "invalid_request_error",
        "This server needs an API key: send the header `Authorization: Bearer KEY`.",
    )
    .with_code("invalid_api_key"))
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then_some(key.trim_ascii())
}

/// The time depends on the lengths alone.
fn equal(key: &[u8], given: &[u8]) -> bool {
    let mut difference = u8::from(key.len() != given.len());
    for (at, byte) in key.iter().enumerate() {
        difference |= byte ^ given.get(at).copied().unwrap_or(0);
    }
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_key(header: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert(AUTHORIZATION, value.parse().expect("a header value"));
        }
        check(&["one".to_owned(), "two".to_owned()], &headers).is_ok()
    }

    #[test]
    fn any_of_the_keys_opens_and_nothing_else_does() {
        assert!(try_key(Some("Bearer one")) && try_key(Some("bearer two")));
        for header in [
            None,
            Some("Bearer "),
            Some("Bearer on"),
            Some("Bearer onee"),
            Some("Basic one"),
            Some("one"),
        ] {
            assert!(!try_key(header), "{header:?}");
        }
        assert!(check(&[], &HeaderMap::new()).is_ok());
    }
}
