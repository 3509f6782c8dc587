// SPDX-License-Identifier: Apache-2.0

//! Routes for operators during development: each one is a call on every engine.

use std::time::Duration;

use http::StatusCode;
use rmpv::Value;
use serde_json::json;
use vllm_engine_client::UtilityError;
use vllm_openai::ApiError;

use crate::handlers::wire::{self, Rpc};
use crate::routes::{Answer, Call, Head, json as answer};

/// Pausing and sleeping wait for running requests.
const PATIENCE: Duration = Duration::from_secs(300);

/// How an engine says that a method is known and not built.
const NOT_BUILT: &str = " is not supported";

async fn call_engines(head: &Head, method: &str, args: Vec<Value>) -> Result<Vec<Value>, ApiError> {
    let engine = &head.app.shared.engine;
    engine
        .utility(method, args, PATIENCE)
        .await
        .map_err(|error| {
            tracing::warn!(request = head.id, %error, "a call to the engines failed");
            if let UtilityError::Failed { message, .. } = &error
                && message.ends_with(NOT_BUILT)
            {
                return ApiError::not_served(format!("The engine has no {method} yet."));
            }
            let status = if matches!(error, UtilityError::NoEngine { .. }) {
                503
            } else {
                500
            };
            let message =
                format!("The engine did not carry out {method}. The server's log has the reason.");
            ApiError::new(status, "server_error", message).with_code("engine_error")
        })
}

/// True when every engine says true.
async fn all(head: &Head, method: &str, args: Vec<Value>) -> Result<bool, ApiError> {
    let answers = call_engines(head, method, args).await?;
    Ok(answers.iter().all(|answer| answer.as_bool() == Some(true)))
}

fn done() -> Answer {
    Ok(answer(StatusCode::OK, "{}"))
}

/// A parameter of the query string.
fn query<'a>(call: &'a Call, name: &str) -> Option<&'a str> {
    let pairs = call.head.parts.uri.query()?.split('&');
    let mut values = pairs
        .filter_map(|pair| pair.split_once('='))
        .filter(|(key, _)| *key == name);
    values.next().map(|(_, value)| value)
}

fn flag(call: &Call, name: &str) -> bool {
    matches!(query(call, name), Some("1" | "true" | "True"))
}

/// `POST /reset_prefix_cache?reset_running_requests=&reset_external=`.
pub async fn reset_prefix_cache(call: Call) -> Answer {
    let args =
        ["reset_running_requests", "reset_external"].map(|name| Value::from(flag(&call, name)));
    let reset = all(&call.head, "reset_prefix_cache", args.to_vec()).await?;
    Ok(answer(
        StatusCode::OK,
        json!({"success": reset}).to_string(),
    ))
}

/// `POST /sleep?level=1&mode=abort`.
pub async fn sleep(call: Call) -> Answer {
    let level: u64 = query(&call, "level")
        .unwrap_or("1")
        .parse()
        .map_err(|_| ApiError::field("level", "`level` must be 1 or 2."))?;
    let mode = query(&call, "mode").unwrap_or("abort");
    call_engines(&call.head, "sleep", vec![level.into(), mode.into()]).await?;
    done()
}

/// `POST /wake_up`.
pub async fn wake_up(call: Call) -> Answer {
    call_engines(&call.head, "wake_up", vec![Value::Nil]).await?;
    done()
}

/// `GET /is_sleeping`.
pub async fn is_sleeping(call: Call) -> Answer {
    let sleeping = all(&call.head, "is_sleeping", Vec::new()).await?;
    Ok(answer(
        StatusCode::OK,
        json!({"is_sleeping": sleeping}).to_string(),
    ))
}

/// `POST /pause?mode=abort&clear_cache=`.
pub async fn pause(call: Call) -> Answer {
    let mode = query(&call, "mode").unwrap_or("abort");
    let args = vec![mode.into(), flag(&call, "clear_cache").into()];
    call_engines(&call.head, "pause_generation", args).await?;
    Ok(answer(
        StatusCode::OK,
        json!({"status": "paused"}).to_string(),
    ))
}

/// `POST /resume`.
pub async fn resume(call: Call) -> Answer {
    call_engines(&call.head, "resume_scheduler", Vec::new()).await?;
    Ok(answer(
        StatusCode::OK,
        json!({"status": "resumed"}).to_string(),
    ))
}

/// `GET /is_paused`.
pub async fn is_paused(call: Call) -> Answer {
    let paused = all(&call.head, "is_scheduler_paused", Vec::new()).await?;
    Ok(answer(
        StatusCode::OK,
        json!({"is_paused": paused}).to_string(),
    ))
}

/// `POST /collective_rpc` with `method`, and if wanted `args`, `kwargs` and `timeout`: a call on every worker.
pub async fn collective_rpc(call: Call) -> Answer {
    let (head, body) = call.read_body().await?;
    let rpc = Rpc::from_json(&body)?;
    let args = vec![
        rpc.method.into(),
        rpc.timeout.map_or(Value::Nil, Value::from),
        rpc.args,
        rpc.kwargs,
    ];
    let results: Vec<_> = call_engines(&head, "collective_rpc", args)
        .await?
        .iter()
        .map(wire::to_json)
        .collect();
    Ok(answer(
        StatusCode::OK,
        json!({"results": results}).to_string(),
    ))
}

/// `POST /start_profile`.
pub async fn start_profile(call: Call) -> Answer {
    call_engines(&call.head, "profile", vec![true.into()]).await?;
    done()
}

/// `POST /stop_profile`.
pub async fn stop_profile(call: Call) -> Answer {
    call_engines(&call.head, "profile", vec![false.into()]).await?;
    done()
}

/// `GET /server_info`: the settings that matter, without keys.
pub async fn server_info(call: Call) -> Answer {
    let shared = &call.head.app.shared;
    let (config, model) = (&shared.config, &shared.model);
    let registration = shared.engine.registration();
    let engines: Vec<_> = registration
        .engines
        .iter()
        .map(|(index, frame)| {
            json!({"index": index, "version": frame.vllm_version, "max_num_seqs": frame.max_num_seqs,
                "num_gpu_blocks": frame.num_gpu_blocks, "block_size": frame.block_size, "dtype": frame.dtype})
        })
        .collect();
    let info = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "model": {"root": model.root, "names": model.names, "max_model_len": model.context},
        "server": {
            "api_keys": config.api_keys.len(),
            "max_request_body_size": config.max_body_bytes,
            "max_logprobs": config.max_logprobs,
            "max_num_queued_reqs": config.queue.requests,
            "max_num_queued_tokens": config.queue.tokens,
            "max_connections": config.max_connections,
            "shards": [config.shards, config.max_shards],
        },
        "engines": engines,
    });
    Ok(answer(StatusCode::OK, info.to_string()))
}
