// SPDX-License-Identifier: Apache-2.0

//! `GET /`: the page, written once.

use std::sync::LazyLock;

use http::StatusCode;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use vllm_openai::ApiError;

use crate::routes::{Answer, Call, json};
use crate::web;

static PAGE: LazyLock<String> = LazyLock::new(web::page);
static HEADERS: LazyLock<[(HeaderName, HeaderValue); 5]> = LazyLock::new(|| {
    let text = HeaderValue::from_static;
    let policy = HeaderValue::try_from(web::policy()).expect("visible ASCII");
    [
        (CONTENT_TYPE, text("text/html; charset=utf-8")),
        (CONTENT_SECURITY_POLICY, policy),
        (CACHE_CONTROL, text("no-cache")),
        (REFERRER_POLICY, text("no-referrer")),
        (X_CONTENT_TYPE_OPTIONS, text("nosniff")),
    ]
});

/// The page is the same for everybody and needs no key; what it asks for does.
pub async fn page(call: Call) -> Answer {
    if call.head.app.shared.config.disable_web_ui {
        return Err(ApiError::not_served(
            "GET / is not served: --disable-web-ui is set.",
        ));
    }
    let mut response = json(StatusCode::OK, PAGE.as_bytes());
    for (name, value) in HEADERS.iter() {
        response.headers_mut().insert(name, value.clone());
    }
    Ok(response)
}
