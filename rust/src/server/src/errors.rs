// SPDX-License-Identifier: Apache-2.0

//! From failures of the layers below to what a client is told. Details go to the log, with the request's id.

use crate::admission::{Full, RETRY_AFTER};
use crate::app::App;
use vllm_engine_client::{EngineError, StreamError, SubmitError};
use vllm_openai::ApiError;

/// Why a choice ended without a finish reason.
#[derive(Debug)]
pub enum Failure {
    /// The engine ended it with an error, and perhaps said why.
    Engine(Option<Box<EngineError>>),
    /// Its stream broke.
    Stream(StreamError),
}

impl From<StreamError> for Failure {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}

impl Failure {
    /// The client's error; logs the reason.
    pub fn into_error(self, request: &str) -> ApiError {
        match self {
            Self::Engine(Some(error)) => engine_error(&error, request),
            Self::Engine(None) => {
                tracing::error!(request, "the engine failed on a request without saying why");
                engine_failed()
            }
            Self::Stream(error) => stream_error(&error, request),
        }
    }
}

fn engine_error(error: &EngineError, request: &str) -> ApiError {
    let EngineError {
        code,
        message,
        retryable,
    } = error;
    tracing::warn!(
        request,
        code,
        message,
        retryable,
        "the engine refused a request"
    );
    match (code.as_str(), retryable) {
        ("validation_error", _) => {
            ApiError::bad_request("The engine refused the request's parameters.")
        }
        ("shutting_down", _) => engine_lost(),
        (_, true) => {
            ApiError::unavailable("The engine takes no requests at the moment. Try again later.")
        }
        _ => engine_failed(),
    }
}

fn engine_failed() -> ApiError {
    ApiError::new(
        500,
        "server_error",
        "The engine failed on this request. The server's log has the reason.",
    )
    .with_code("engine_error")
}

fn stream_error(error: &StreamError, request: &str) -> ApiError {
    tracing::warn!(request, %error, "a stream broke");
    match error {
        StreamError::Engine(_) => engine_lost(),
        StreamError::Shutdown => shutting_down(),
        StreamError::SlowReader { .. } => ApiError::new(
            500,
            "server_error",
            "The answer was not read fast enough and was ended.",
        )
        .with_code("slow_reader"),
        StreamError::Undecodable(_) => engine_failed(),
    }
}

/// 429 with the time to wait: too much waits already.
pub fn busy(app: &App, full: Full) -> ApiError {
    let (what, count, cell) = match full {
        Full::Requests => (
            "requests",
            app.shared.admission.choices(),
            &app.cells.rejected_requests,
        ),
        Full::Tokens => (
            "prompt tokens",
            app.shared.admission.tokens(),
            &app.cells.rejected_tokens,
        ),
    };
    cell.inc();
    ApiError::new(
        429,
        "rate_limit_error",
        format!(
            "The server is busy: {count} {what} are in its queue. Try again in {RETRY_AFTER} s."
        ),
    )
    .with_code("queue_full")
}

/// 503 while no engine serves.
pub fn no_engine() -> ApiError {
    ApiError::unavailable("No engine serves requests at the moment. Try again later.")
        .with_code("engine_unavailable")
}

/// 503 while too many connections are open.
pub fn crowded() -> ApiError {
    ApiError::unavailable("Too many connections are open. Try again later.")
        .with_code("too_many_connections")
}

/// 503 for a request whose engine ended or fell silent.
fn engine_lost() -> ApiError {
    ApiError::unavailable("The engine that worked on this request was lost. Send it again.")
        .with_code("engine_unavailable")
}

/// 503 during the drain.
pub fn shutting_down() -> ApiError {
    ApiError::unavailable("The server is shutting down.").with_code("shutting_down")
}

/// A request that did not reach an engine.
pub fn submit_error(error: SubmitError, request: &str) -> ApiError {
    match error {
        SubmitError::Invalid(param) => ApiError::field(
            param.field,
            format!(
                "`{}` must be {}, not {}.",
                param.field, param.limit, param.value
            ),
        ),
        SubmitError::NoSuchRank { .. } => {
            ApiError::field("X-data-parallel-rank", error.to_string())
        }
        SubmitError::Shutdown => shutting_down(),
        SubmitError::NoEngine(_)
        | SubmitError::Backlog { .. }
        | SubmitError::TooManyRequests { .. } => {
            tracing::warn!(request, %error, "a request was not submitted");
            no_engine()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: &str, retryable: bool) -> ApiError {
        let message = "secret detail".to_owned();
        let error = EngineError {
            code: code.to_owned(),
            message,
            retryable,
        };
        Failure::Engine(Some(Box::new(error))).into_error("id")
    }

    #[test]
    fn the_engines_codes_become_statuses_and_its_text_stays_in_the_log() {
        assert_eq!(answer("validation_error", false).status, 400);
        assert_eq!(answer("engine_paused", true).status, 503);
        let stopped = answer("shutting_down", true);
        assert_eq!(
            (stopped.status, stopped.code),
            (503, Some("engine_unavailable"))
        );
        assert_eq!(answer("anything_else", false).status, 500);
        assert!(!answer("anything_else", false).message.contains("secret"));
    }
}
