// SPDX-License-Identifier: Apache-2.0

//! What the server says about itself: models, version, load, metrics.

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde_json::json;
use vllm_engine_client::{EngineState, EngineStats};
use vllm_metrics::{EngineGauges, QueueGauges};
use vllm_openai::ApiError;
use vllm_openai::response::{ModelCard, ModelList};

use crate::app::Shared;
use crate::routes::{Answer, Call, json as answer};

/// `GET /v1/models`.
pub async fn models(call: Call) -> Answer {
    let shared = &call.head.app.shared;
    let data = shared
        .model
        .names
        .iter()
        .map(|name| card(shared, name))
        .collect();
    Ok(answer(
        StatusCode::OK,
        text(&ModelList {
            object: "list",
            data,
        }),
    ))
}

/// `GET /v1/models/{id}`.
pub async fn model(call: Call) -> Answer {
    let shared = &call.head.app.shared;
    let id = percent_decode(&call.rest);
    if !shared.model.answers_to(&id) {
        return Err(ApiError::model_not_found(&id));
    }
    Ok(answer(StatusCode::OK, text(&card(shared, &id))))
}

fn card<'a>(shared: &'a Shared, name: &'a str) -> ModelCard<'a> {
    ModelCard {
        id: name,
        object: "model",
        created: shared.started,
        owned_by: "vllm",
        root: &shared.model.root,
        parent: None,
        max_model_len: shared.model.context,
    }
}

/// `GET /version`.
pub async fn version(_: Call) -> Answer {
    Ok(answer(
        StatusCode::OK,
        json!({"version": env!("CARGO_PKG_VERSION")}).to_string(),
    ))
}

/// `GET /load`: requests in all, and each engine.
pub async fn load(call: Call) -> Answer {
    let shared = &call.head.app.shared;
    let health = shared.engine.health();
    let engines: Vec<_> = shared
        .engine
        .stats()
        .iter()
        .zip(&health.engines)
        .map(|(stats, health)| {
            json!({
                "index": stats.index,
                "ready": health.state == EngineState::Ready,
                "in_flight": stats.in_flight,
                "running": stats.running,
                "waiting": stats.waiting,
                "kv_cache_usage": stats.kv_cache_usage,
            })
        })
        .collect();
    let load = json!({"server_load": shared.requests.get(), "engines": engines});
    Ok(answer(StatusCode::OK, load.to_string()))
}

/// `GET /metrics`.
pub async fn metrics(call: Call) -> Answer {
    let shared = &call.head.app.shared;
    let health = shared.engine.health();
    let stats = shared.engine.stats();
    let engines: Vec<_> = stats
        .iter()
        .zip(&health.engines)
        .map(|(stats, health)| gauges(stats, &health.state))
        .collect();
    let mut response = answer(
        StatusCode::OK,
        shared.metrics.expose(&engines, queue(shared)),
    );
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

fn queue(shared: &Shared) -> QueueGauges {
    QueueGauges {
        choices: shared.admission.choices(),
        waiting: shared.admission.waiting(),
        tokens: shared.admission.tokens(),
    }
}

/// An engine that is lost runs nothing and holds nothing; what it has counted stays.
fn gauges(stats: &EngineStats, state: &EngineState) -> EngineGauges {
    let counted = EngineGauges {
        prefix_cache_queries: stats.prefix_cache_queries,
        prefix_cache_hits: stats.prefix_cache_hits,
        step_tokens: stats.step_tokens,
        ..EngineGauges::default()
    };
    match state {
        EngineState::Failed(_) => counted,
        EngineState::Ready => EngineGauges {
            running: stats.running,
            waiting: stats.waiting,
            kv_cache_usage: stats.kv_cache_usage,
            ..counted
        },
    }
}

fn text(value: &impl serde::Serialize) -> Vec<u8> {
    let mut out = Vec::new();
    crate::emit::json::value(value, &mut out);
    out
}

/// `%2F` and its kin; what is no escape stays as it is.
fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .filter(|digits| !digits.starts_with('+'));
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::percent_decode;

    #[test]
    fn escapes_are_decoded_and_the_rest_stays() {
        assert_eq!(percent_decode("a%2Fb"), "a/b");
        assert_eq!(percent_decode("100%"), "100%");
        assert_eq!(percent_decode("%+5"), "%+5");
        assert_eq!(percent_decode("%zz%c3%a9"), "%zzé");
    }
}
