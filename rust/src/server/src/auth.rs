// SPDX-License-Identifier: Apache-2.0

//! API keys: `Authorization: Bearer KEY`.
//!
//! Owns: the digests of the accepted keys. The keys themselves are not kept: nothing can show them.

use std::fmt;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use vllm_openai::ApiError;

use crate::config::ConfigError;

type Digest = [u8; SHA256_OUTPUT_LEN];

/// The accepted keys; none means that no key is needed.
#[derive(Clone, Default)]
pub struct ApiKeys(Vec<Digest>);

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

impl ApiKeys {
    /// Refuses an empty key: whoever sends none would have it.
    pub fn new(keys: &[String]) -> Result<Self, ConfigError> {
        if keys.iter().any(String::is_empty) {
            return Err(ConfigError("an API key must not be empty".to_owned()));
        }
        Ok(Self(
            keys.iter().map(|key| sha256(key.as_bytes())).collect(),
        ))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no key is needed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a request may go on.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let given = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
        let given = sha256(given.and_then(bearer).unwrap_or_default());
        // Every key is compared: how long it takes says nothing about which one was close.
        let known = self
            .0
            .iter()
            .fold(false, |known, key| known | equal(key, &given));
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
}

fn sha256(key: &[u8]) -> Digest {
    let mut out = [0; SHA256_OUTPUT_LEN];
    out.copy_from_slice(digest(&SHA256, key).as_ref());
    out
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then_some(key.trim_ascii())
}

/// Looks at every byte. What was given is hashed before, so its length does not show either.
fn equal(key: &Digest, given: &Digest) -> bool {
    let pairs = key.iter().zip(given);
    let difference = pairs.fold(0, |difference, (a, b)| difference | (a ^ b));
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> ApiKeys {
        ApiKeys::new(&["one".to_owned(), "two".to_owned()]).expect("sound keys")
    }

    fn try_key(header: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert(AUTHORIZATION, value.parse().expect("a header value"));
        }
        keys().check(&headers).is_ok()
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
        assert!(ApiKeys::default().check(&HeaderMap::new()).is_ok());
    }

    #[test]
    fn keys_cannot_be_empty_and_do_not_show() {
        assert!(ApiKeys::new(&[String::new()]).is_err());
        assert_eq!(format!("{:?}", keys()), "2 keys");
    }
}
