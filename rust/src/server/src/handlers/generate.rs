// SPDX-License-Identifier: Apache-2.0

//! `POST /inference/v1/generate`: token ids in, token ids out.

use vllm_openai::{ApiError, GenerateRequest};

use crate::emit::envelope::Route;
use crate::routes::{Answer, Call};
use crate::{handlers, prompt, submit};

/// validate > submit > emit.
pub async fn handle(call: Call) -> Answer {
    if !call.head.app.shared.config.scale_out {
        return Err(ApiError::not_served(
            "POST /inference/v1/generate is served only with --enable-scale-out.",
        ));
    }
    let (head, body) = call.read_body().await?;
    let GenerateRequest { options, token_ids } =
        prompt::read(&head, body, GenerateRequest::from_json).await?;
    let permit = submit::admit(&head, &options, 1)?;
    let ids = prompt::fit(&head.app.model, &options, token_ids, "token_ids")?;
    handlers::generate(Route::Generate, &head, &options, permit, vec![ids]).await
}
