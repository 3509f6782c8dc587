// SPDX-License-Identifier: Apache-2.0

//! What a request's head says about it: ids, session, priority, trace.

use http::HeaderMap;
use vllm_openai::ApiError;
use vllm_openai::limits::{MAX_ID_BYTES, MAX_PRIORITY};

/// Header that carries a request's id in both directions.
pub const REQUEST_ID: &str = "x-request-id";

/// The id of a request: the header's, where it is one word that can be shown, else 32 random hexadecimal digits.
pub fn request_id(headers: &HeaderMap) -> String {
    let own = shown(headers, REQUEST_ID).filter(|id| !id.contains(' '));
    own.map_or_else(random, str::to_owned)
}

/// 32 random hexadecimal digits.
pub fn random() -> String {
    format!("{:032x}", fastrand::u128(..))
}

/// Header that names a request's session.
const SESSION_ID: &str = "x-session-id";
/// Header that says how soon a request is served.
const PRIORITY: &str = "x-vllm-priority";
/// Headers of W3C Trace Context.
const TRACE: [&str; 2] = ["traceparent", "tracestate"];

/// The session that a request belongs to: the field's, else the header's.
pub fn session(own: Option<&str>, headers: &HeaderMap) -> Option<String> {
    own.or_else(|| shown(headers, SESSION_ID))
        .map(str::to_owned)
}

/// A request's priority: the field's, else the header's, else 0.
pub fn priority(own: Option<i32>, headers: &HeaderMap) -> Result<i32, ApiError> {
    let Some(value) = headers.get(PRIORITY).filter(|_| own.is_none()) else {
        return Ok(own.unwrap_or(0));
    };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    number
        .filter(|number: &i32| i64::from(*number) >= -MAX_PRIORITY)
        .ok_or_else(|| {
            ApiError::field(
                "X-Vllm-Priority",
                format!("The header X-Vllm-Priority must be a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}."),
            )
        })
}

/// What a tracer needs to put the engine's work below the client's.
pub fn trace(headers: &HeaderMap) -> Option<Vec<(String, String)>> {
    let found: Vec<_> = TRACE
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), shown(headers, name)?.to_owned())))
        .collect();
    (!found.is_empty()).then_some(found)
}

/// A header's value, when it is visible text of a sane length.
fn shown<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get(name)?.to_str().ok()?;
    let sane = (1..=MAX_ID_BYTES).contains(&value.len()) && !value.contains(char::is_control);
    sane.then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(
            http::HeaderName::from_static(name),
            value.parse().expect("a header value"),
        )])
    }

    #[test]
    fn fields_win_over_headers() {
        let given = headers(PRIORITY, "-7");
        assert_eq!(priority(Some(3), &given).ok(), Some(3));
        assert_eq!(priority(None, &given).ok(), Some(-7));
        assert_eq!(priority(None, &HeaderMap::new()).ok(), Some(0));
        for wrong in ["x", "1.5", "99999999999", "-2147483648"] {
            let error = priority(None, &headers(PRIORITY, wrong)).expect_err("refused");
            assert_eq!(error.param.as_deref(), Some("X-Vllm-Priority"));
        }
        let given = headers(SESSION_ID, "head");
        assert_eq!(session(Some("own"), &given).as_deref(), Some("own"));
        assert_eq!(session(None, &given).as_deref(), Some("head"));
    }

    #[test]
    fn an_id_that_cannot_be_shown_is_replaced() {
        assert_eq!(request_id(&headers(REQUEST_ID, "mine")), "mine");
        let long = "x".repeat(MAX_ID_BYTES + 1);
        for unfit in ["", "a\tb", "a b", &long] {
            assert_eq!(request_id(&headers(REQUEST_ID, unfit)).len(), 32, "{unfit}");
        }
    }

    #[test]
    fn trace_headers_are_passed_on() {
        let given = headers("traceparent", "00-a-b-01");
        let expected = vec![("traceparent".to_owned(), "00-a-b-01".to_owned())];
        assert_eq!(trace(&given), Some(expected));
        assert_eq!(trace(&HeaderMap::new()), None);
    }
}
