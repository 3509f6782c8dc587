// SPDX-License-Identifier: Apache-2.0

//! `POST /v1/chat/completions/render` and `POST /v1/completions/render`: the prompt's tokens, and no answer.

use http::StatusCode;
use serde_json::Value;
use vllm_openai::{ChatRequest, CompletionRequest};

use crate::identity::request_id;
use crate::routes::{Answer, Call, json};
use crate::{prompt, render, submit};

/// validate > render > encode.
pub async fn chat(call: Call) -> Answer {
    let (app, parts, body, _) = call.read_body().await?;
    let request = ChatRequest::from_json(&body)?;
    submit::check(&app, &request.options)?;
    let (options, ids) = prompt::chat(&app, request).await?;
    let id = request_id("chatcmpl-", options.request_id.as_deref(), &parts.headers);
    Ok(answer(&render::rendered(&app.model, &options, &ids, &id)?))
}

/// validate > encode; a list, for a request may have several prompts.
pub async fn completions(call: Call) -> Answer {
    let (app, parts, body, _) = call.read_body().await?;
    let CompletionRequest { options, prompt } = CompletionRequest::from_json(&body)?;
    submit::check(&app, &options)?;
    let prompts = prompt::completion(&app, &options, prompt).await?;
    let id = request_id("cmpl-", options.request_id.as_deref(), &parts.headers);
    Ok(answer(&render::list(&app.model, &options, &prompts, &id)?))
}

fn answer(value: &Value) -> http::Response<crate::body::Body> {
    json(StatusCode::OK, value.to_string())
}
