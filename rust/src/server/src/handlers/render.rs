// SPDX-License-Identifier: Apache-2.0

//! `POST /v1/chat/completions/render` and `POST /v1/completions/render`: the prompt's tokens, and no answer.

use http::StatusCode;
use serde_json::Value;
use vllm_openai::{ChatRequest, CompletionRequest};

use crate::routes::{Answer, Call, json};
use crate::{prompt, render, submit};

/// validate > render > encode.
pub async fn chat(call: Call) -> Answer {
    let (head, body) = call.read_body().await?;
    let request = prompt::read(&head, body, ChatRequest::from_json).await?;
    submit::check(&head, &request.options)?;
    let (options, ids) = prompt::chat(&head, request).await?;
    let id = head.answer_id("chatcmpl-", &options);
    Ok(answer(&render::rendered(
        &head.app.model,
        &options,
        &ids,
        &id,
    )?))
}

/// validate > encode; a list, for a request may have several prompts.
pub async fn completions(call: Call) -> Answer {
    let (head, body) = call.read_body().await?;
    let CompletionRequest { options, prompt } =
        prompt::read(&head, body, CompletionRequest::from_json).await?;
    submit::check(&head, &options)?;
    let prompts = prompt::completion(&head, &options, prompt).await?;
    let id = head.answer_id("cmpl-", &options);
    Ok(answer(&render::list(
        &head.app.model,
        &options,
        &prompts,
        &id,
    )?))
}

fn answer(value: &Value) -> http::Response<crate::body::Body> {
    json(StatusCode::OK, value.to_string())
}
