// SPDX-License-Identifier: Apache-2.0

//! `POST /inference/v1/generate`: token ids in, token ids out.

use vllm_openai::{ApiError, GenerateRequest};

use crate::emit::envelope::Route;
use crate::emit::fold;
use crate::identity::request_id;
use crate::routes::{Answer, Call};
use crate::submit::{self, Order};
use crate::{handlers, prompt};

/// validate > submit > emit.
pub async fn handle(call: Call) -> Answer {
    if !call.app.shared.config.scale_out {
        return Err(ApiError::not_served(
            "POST /inference/v1/generate is served only with --enable-scale-out.",
        ));
    }
    let (app, parts, body, arrival) = call.read_body().await?;
    let GenerateRequest { options, token_ids } = GenerateRequest::from_json(&body)?;
    drop(body);
    submit::check(&app, &options)?;
    let permit = submit::admit(&app, options.candidates() as usize)?;
    let ids = prompt::fit(&app.model, &options, token_ids, "token_ids")?;
    let id = request_id("", options.request_id.as_deref(), &parts.headers);
    let order = Order {
        id,
        arrival,
        options: &options,
        headers: &parts.headers,
    };
    let generation = submit::submit(&app, &order, permit, vec![ids])?;
    if options.stream {
        return handlers::stream(generation, Route::Generate, &options).await;
    }
    fold::generate(generation).await.map(handlers::whole)
}
