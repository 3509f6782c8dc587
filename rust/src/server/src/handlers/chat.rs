// SPDX-License-Identifier: Apache-2.0

//! `POST /v1/chat/completions`.

use vllm_openai::ChatRequest;

use crate::emit::envelope::Route;
use crate::emit::fold;
use crate::identity::request_id;
use crate::routes::{Answer, Call};
use crate::submit::{self, Order};
use crate::{handlers, prompt};

/// validate > render > encode > submit > detokenize > emit.
pub async fn handle(call: Call) -> Answer {
    let (app, parts, body, arrival) = call.read_body().await?;
    let request = ChatRequest::from_json(&body)?;
    drop(body);
    submit::check(&app, &request.options)?;
    let permit = submit::admit(&app, request.options.candidates() as usize)?;
    let (options, ids) = prompt::chat(&app, request).await?;
    let id = request_id("chatcmpl-", options.request_id.as_deref(), &parts.headers);
    let order = Order {
        id,
        arrival,
        options: &options,
        headers: &parts.headers,
    };
    let generation = submit::submit(&app, &order, permit, vec![ids])?;
    if options.stream {
        return handlers::stream(generation, Route::Chat, &options).await;
    }
    fold::chat(generation).await.map(handlers::whole)
}
