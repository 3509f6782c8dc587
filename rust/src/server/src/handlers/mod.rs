// SPDX-License-Identifier: Apache-2.0

//! One function per route: the steps of a request by their names.

pub mod chat;
pub mod completions;
pub mod dev;
pub mod generate;
pub mod health;
pub mod info;
pub mod reference;
pub mod render;
pub mod tokenize;
mod wire;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use vllm_openai::{ApiError, Options};

use crate::body::Body;
use crate::emit::envelope::{ChunkWriter, Route};
use crate::emit::sse::SseBody;
use crate::generation::Generation;
use crate::routes::json;

/// Starts a streamed answer: its head is sent with the first event, or an error instead.
async fn stream(
    generation: Generation,
    route: Route,
    options: &Options,
) -> Result<Response<Body>, ApiError> {
    let stream = options.stream_options.unwrap_or_default();
    let continuous = stream.include_usage && stream.continuous_usage_stats;
    let facts = &generation.facts;
    let interval = options
        .stream_interval
        .unwrap_or(facts.app.shared.config.stream_interval);
    let writer = ChunkWriter::new(route, facts, continuous, interval);
    let body = SseBody::start(generation, writer, stream.include_usage).await?;
    let mut response = Response::new(Body::Stream(Box::new(body)));
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// A whole answer.
fn whole(body: Vec<u8>) -> Response<Body> {
    json(StatusCode::OK, body)
}
