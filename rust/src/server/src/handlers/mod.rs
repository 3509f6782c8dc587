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
pub mod web;
mod wire;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use vllm_openai::{ApiError, Options};

use crate::admission::Permit;
use crate::body::Body;
use crate::emit::envelope::{ChunkWriter, Route};
use crate::emit::fold;
use crate::emit::sse::SseBody;
use crate::generation::Generation;
use crate::identity::REQUEST_ID;
use crate::prompt::Ids;
use crate::routes::{Answer, Head, json};
use crate::submit::{self, Order};

/// submit > detokenize > emit: what follows, on every route that generates, once the prompts are token ids.
async fn generate(
    route: Route,
    head: &Head,
    options: &Options,
    permit: Permit,
    prompts: Vec<Ids>,
) -> Answer {
    let order = Order {
        id: head.answer_id(route.prefix(), options),
        arrival: head.arrival,
        options,
        headers: &head.parts.headers,
    };
    let generation = submit::submit(&head.app, &order, permit, prompts)?;
    let mut response = if options.stream {
        stream(generation, route, options).await?
    } else {
        json(StatusCode::OK, fold::answer(generation, route).await?)
    };
    if let Some(id) = head.own_id(options) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    Ok(response)
}

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
