// SPDX-License-Identifier: Apache-2.0

//! `POST /v1/chat/completions`.

use vllm_openai::ChatRequest;

use crate::emit::envelope::Route;
use crate::routes::{Answer, Call};
use crate::{handlers, prompt, submit};

/// validate > render > encode > submit > detokenize > emit.
pub async fn handle(call: Call) -> Answer {
    let (head, body) = call.read_body().await?;
    let request = prompt::read(&head, body, ChatRequest::from_json).await?;
    let permit = submit::admit(&head, &request.options, 1)?;
    let (options, ids) = prompt::chat(&head, request).await?;
    handlers::generate(Route::Chat, &head, &options, permit, vec![ids]).await
}
