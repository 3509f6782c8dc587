// SPDX-License-Identifier: Apache-2.0

//! What the head of a request must be before anything of it is served: one host, a sender that is no stranger's web
//! page, a body of a kind that is read.
//!
//! Must not know: keys, what a body holds.

use http::header::{
    CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, ORIGIN, TRANSFER_ENCODING,
};
use http::request::Parts;
use http::uri::Authority;
use http::{Method, Version};
use vllm_openai::ApiError;
use vllm_openai::error::shorten;

use crate::cors::Cors;

/// How a browser says which page a request comes from.
const FETCH_SITE: &str = "sec-fetch-site";

/// HTTP/1.1 wants one host, and who sends two may be seen differently by a proxy.
pub fn check_host(parts: &Parts) -> Result<(), ApiError> {
    let hosts: Vec<_> = parts.headers.get_all(HOST).iter().collect();
    let problem = match hosts[..] {
        [] if parts.version == Version::HTTP_11 => "is missing",
        [] => return Ok(()),
        [host] if is_authority(host) => return Ok(()),
        [_] => "is no host",
        _ => "is there more than once",
    };
    Err(ApiError::field(
        "Host",
        format!("The header Host {problem}: send one, as `Host: localhost:8000`."),
    ))
}

fn is_authority(host: &HeaderValue) -> bool {
    host.is_empty() || Authority::try_from(host.as_bytes()).is_ok()
}

/// A browser sends a page's requests wherever the page likes; what they change is done before the page is told that
/// it may not read the answer. Who is no browser says nothing of pages and passes.
pub fn check_sender(parts: &Parts, cors: &Cors) -> Result<(), ApiError> {
    let safe = [Method::GET, Method::HEAD, Method::OPTIONS].contains(&parts.method);
    let origin = parts.headers.get(ORIGIN);
    if safe || !is_from_elsewhere(parts, origin) || origin.is_some_and(|page| cors.allows(page)) {
        return Ok(());
    }
    let page = origin
        .and_then(|page| page.to_str().ok())
        .map_or_else(|| "another page".to_owned(), shorten);
    Err(ApiError::new(
        403,
        "invalid_request_error",
        format!(
            "A web page of another origin ({page}) sent this request. Name its origin with --allowed-origins, or \
             start the server with an API key."
        ),
    )
    .with_code("origin_not_allowed"))
}

fn is_from_elsewhere(parts: &Parts, origin: Option<&HeaderValue>) -> bool {
    if let Some(site) = parts.headers.get(FETCH_SITE) {
        return !["same-origin", "none"].iter().any(|own| site == own);
    }
    let host = match parts.uri.authority() {
        Some(authority) => Some(authority.as_str().as_bytes()),
        None => parts.headers.get(HOST).map(HeaderValue::as_bytes),
    };
    origin.is_some_and(|origin| host_of(origin) != host)
}

/// `localhost:8000` of `http://localhost:8000`; nothing of `null`.
fn host_of(origin: &HeaderValue) -> Option<&[u8]> {
    let (_, host) = origin.to_str().ok()?.split_once("://")?;
    Some(host.as_bytes())
}

/// A body is JSON as it is. None of its kind may be told; a browser always tells one that a page chose.
pub fn check_body(headers: &HeaderMap) -> Result<(), ApiError> {
    let mut kinds = headers.get_all(CONTENT_TYPE).iter();
    if let Some(kind) = kinds.find(|kind| !is_json(kind)) {
        return Err(unsupported(
            "Content-Type",
            kind,
            "send `Content-Type: application/json`",
        ));
    }
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    if let Some(coding) = codings.find(|coding| !is(coding, "identity")) {
        return Err(unsupported(
            "Content-Encoding",
            coding,
            "send the body as it is",
        ));
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match codings.find(|coding| !is(coding, "chunked")) {
        Some(coding) => Err(unknown_transfer(coding)),
        None => Ok(()),
    }
}

fn is(value: &HeaderValue, word: &str) -> bool {
    value
        .as_bytes()
        .trim_ascii()
        .eq_ignore_ascii_case(word.as_bytes())
}

/// 501, as the protocol has it for a transfer coding that a server does not know.
fn unknown_transfer(coding: &HeaderValue) -> ApiError {
    let shown = shorten(&String::from_utf8_lossy(coding.as_bytes()));
    ApiError::not_served(format!(
        "A body with `Transfer-Encoding: {shown}` is not read: send it `chunked` or with its length."
    ))
    .with_param("Transfer-Encoding")
}

/// `application/json` and `application/anything+json`, whatever parameters follow.
fn is_json(kind: &HeaderValue) -> bool {
    let kind = kind.as_bytes().split(|&byte| byte == b';').next();
    let kind = kind.unwrap_or_default().trim_ascii().to_ascii_lowercase();
    let name = kind.strip_prefix(b"application/").unwrap_or_default();
    name == b"json" || name.ends_with(b"+json")
}

fn unsupported(header: &str, value: &HeaderValue, remedy: &str) -> ApiError {
    let shown = shorten(&String::from_utf8_lossy(value.as_bytes()));
    ApiError::new(
        415,
        "invalid_request_error",
        format!("A body with `{header}: {shown}` is not read: {remedy}."),
    )
    .with_param(header)
    .with_code("unsupported_media_type")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_read(name: &'static str, value: &'static str) -> bool {
        let name = http::HeaderName::from_static(name);
        check_body(&HeaderMap::from_iter([(
            name,
            HeaderValue::from_static(value),
        )]))
        .is_ok()
    }

    #[test]
    fn json_is_read_by_whatever_name_it_goes() {
        for kind in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/vnd.api+json ;v=1",
        ] {
            assert!(is_read("content-type", kind), "{kind}");
        }
        for kind in [
            "",
            "text/plain",
            "text/plain; a=application/json",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/jsonp",
            "json",
        ] {
            assert!(!is_read("content-type", kind), "{kind}");
        }
        assert!(is_read("content-encoding", "Identity"));
        assert!(!is_read("content-encoding", "gzip"));
        assert!(is_read("transfer-encoding", "Chunked"));
        for coding in ["gzip, chunked", "gzip", "chunked, chunked"] {
            let error = check_body(&HeaderMap::from_iter([(
                TRANSFER_ENCODING,
                HeaderValue::from_static(coding),
            )]));
            let error = error.expect_err("refused");
            assert!(error.message.contains(coding), "{error:?}");
            assert_eq!(error.status, 501);
        }
    }
}
