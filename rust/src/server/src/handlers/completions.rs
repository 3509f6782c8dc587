// SPDX-License-Identifier: Apache-2.0

//! `POST /v1/completions`.

use vllm_openai::CompletionRequest;

use crate::emit::envelope::Route;
use crate::emit::fold;
use crate::identity::request_id;
use crate::routes::{Answer, Call};
use crate::submit::{self, Order};
use crate::{handlers, prompt};

/// validate > encode > submit > detokenize > emit.
pub async fn handle(call: Call) -> Answer {
    let (app, parts, body, arrival) = call.read_body().await?;
    let CompletionRequest { options, prompt } = CompletionRequest::from_json(&body)?;
    drop(body);
    submit::check(&app, &options)?;
    let permit = submit::admit(&app, prompt.len() * options.candidates() as usize)?;
    let prompts = prompt::completion(&app, &options, prompt).await?;
    let id = request_id("cmpl-", options.request_id.as_deref(), &parts.headers);
    let order = Order {
        id,
        arrival,
        options: &options,
        headers: &parts.headers,
    };
    let generation = submit::submit(&app, &order, permit, prompts)?;
    if options.stream {
        return handlers::stream(generation, Route::Completions, &options).await;
    }
    fold::completion(generation).await.map(handlers::whole)
}
