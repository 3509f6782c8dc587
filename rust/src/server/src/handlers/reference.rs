// SPDX-License-Identifier: Apache-2.0

//! `GET /openapi.json` and `GET /docs`: written once, from the tables.

use std::sync::LazyLock;

use http::StatusCode;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};

use crate::reference;
use crate::routes::{Answer, Call, json};

static OPENAPI: LazyLock<String> = LazyLock::new(|| reference::openapi().to_string());
static PAGE: LazyLock<String> = LazyLock::new(reference::html);

/// The interface for programs.
pub async fn openapi(_: Call) -> Answer {
    Ok(json(StatusCode::OK, OPENAPI.as_bytes()))
}

/// The interface for people. The page may load nothing from anywhere.
pub async fn page(_: Call) -> Answer {
    let mut response = json(StatusCode::OK, PAGE.as_bytes());
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'"),
    );
    Ok(response)
}
