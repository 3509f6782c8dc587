// SPDX-License-Identifier: Apache-2.0

//! Rendering alone: a chat or completions request becomes what `/inference/v1/generate` takes.
//!
//! Must not know: engines, streams.

use serde_json::{Map, Value, json};
use vllm_openai::{ApiError, ChatRequest, CompletionRequest, Options};

use crate::identity;
use crate::model::Model;
use crate::prompt::{self, Ids};
use crate::sampling;

/// One prompt with everything that was said about it.
pub fn rendered(model: &Model, options: &Options, ids: &Ids, id: &str) -> Result<Value, ApiError> {
    for (name, asked) in [
        ("best_of", options.ranks()),
        ("echo", options.echo),
        ("max_tokens", options.prompt_only()),
    ] {
        if asked {
            return Err(ApiError::field(
                name,
                format!("`{name}` concerns the answer, and rendering gives none."),
            ));
        }
    }
    let mut out = Map::new();
    out.insert("request_id".into(), id.into());
    out.insert(
        "model".into(),
        options.model.as_deref().unwrap_or(model.name()).into(),
    );
    out.insert("token_ids".into(), ids.to_vec().into());
    out.insert(
        "sampling_params".into(),
        sampling_params(model, options, ids.len())?,
    );
    out.insert("stream".into(), options.stream.into());
    if let Some(stream) = options.stream_options {
        let options = json!({"include_usage": stream.include_usage, "continuous_usage_stats": stream.continuous_usage_stats});
        out.insert("stream_options".into(), options);
    }
    out.insert("cache_salt".into(), options.cache_salt.clone().into());
    out.insert("priority".into(), options.priority.unwrap_or(0).into());
    if let Some(session) = &options.session_id {
        out.insert("session_id".into(), session.as_str().into());
    }
    if let Some(interval) = options.stream_interval {
        out.insert("stream_interval".into(), interval.into());
    }
    if options.return_tokens_as_token_ids {
        out.insert("return_tokens_as_token_ids".into(), true.into());
    }
    Ok(out.into())
}

/// Every value as the engine would get it, the model's and the server's defaults included.
fn sampling_params(model: &Model, options: &Options, prompt: usize) -> Result<Value, ApiError> {
    let params = sampling::params(model, options, prompt)?;
    let given = &options.sampling;
    let mut out = json!({
        "n": options.choices(),
        "temperature": params.temperature,
        "top_p": params.top_p,
        "top_k": params.top_k,
        "min_p": params.min_p,
        "presence_penalty": params.presence_penalty,
        "frequency_penalty": params.frequency_penalty,
        "repetition_penalty": params.repetition_penalty,
        "max_tokens": params.max_tokens,
        "min_tokens": params.min_tokens,
        "seed": given.seed,
        "stop": given.stop,
        "stop_token_ids": params.stop_token_ids,
        "ignore_eos": given.ignore_eos,
        "bad_words": given.bad_words,
        "logprobs": options.logprobs,
        "prompt_logprobs": options.prompt_logprobs,
        "include_stop_str_in_output": given.include_stop_str_in_output,
        "skip_special_tokens": given.skip_special_tokens.unwrap_or(true),
    });
    if !given.logit_bias.is_empty() {
        let bias: Map<_, _> = given
            .logit_bias
            .iter()
            .map(|(id, bias)| (id.to_string(), json!(bias)))
            .collect();
        out["logit_bias"] = bias.into();
    }
    if !options.logprob_token_ids.is_empty() {
        out["logprob_token_ids"] = options.logprob_token_ids.clone().into();
    }
    if !given.allowed_token_ids.is_empty() {
        out["allowed_token_ids"] = given.allowed_token_ids.clone().into();
    }
    if let Some(budget) = given.thinking_token_budget {
        out["thinking_token_budget"] = budget.into();
    }
    if let Some(sizes) = given.repetition_detection {
        out["repetition_detection"] = json!({
            "max_pattern_size": sizes.max_pattern_size,
            "min_pattern_size": sizes.min_pattern_size,
            "min_count": sizes.min_count,
        });
    }
    Ok(out)
}

/// Renders the JSON body of a request outside of a server: one with `messages` is a chat request, any other a
/// completions request, which gives a list.
pub fn body(model: &Model, body: &[u8]) -> Result<Value, ApiError> {
    let is_chat = vllm_openai::body::members(body)?
        .iter()
        .any(|(name, _)| name == "messages");
    let id = |options: &Options, prefix: &str| {
        let own = options.request_id.clone();
        format!("{prefix}{}", own.unwrap_or_else(identity::random))
    };
    if is_chat {
        let (options, ids) = prompt::chat_here(model, ChatRequest::from_json(body)?)?;
        return rendered(model, &options, &ids, &id(&options, "chatcmpl-"));
    }
    let CompletionRequest { options, prompt } = CompletionRequest::from_json(body)?;
    let prompts = prompt::completion_here(model, &options, prompt)?;
    list(model, &options, &prompts, &id(&options, "cmpl-"))
}

/// The prompts of a completions request.
pub fn list(
    model: &Model,
    options: &Options,
    prompts: &[Ids],
    id: &str,
) -> Result<Value, ApiError> {
    let each = prompts.iter().map(|ids| rendered(model, options, ids, id));
    each.collect::<Result<Vec<_>, _>>().map(Value::from)
}
