// SPDX-License-Identifier: Apache-2.0

//! `POST /v1/completions`.

use vllm_openai::CompletionRequest;

use crate::emit::envelope::Route;
use crate::routes::{Answer, Call};
use crate::{handlers, prompt, submit};

/// validate > encode > submit > detokenize > emit.
pub async fn handle(call: Call) -> Answer {
    let (head, body) = call.read_body().await?;
    let CompletionRequest { options, prompt } =
        prompt::read(&head, body, CompletionRequest::from_json).await?;
    let permit = submit::admit(&head, &options, prompt.len())?;
    let prompts = prompt::completion(&head, &options, prompt).await?;
    handlers::generate(Route::Completions, &head, &options, permit, prompts).await
}
