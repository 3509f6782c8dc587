// SPDX-License-Identifier: Apache-2.0

//! The one error a client sees: an HTTP status and OpenAI's error object.

use serde::Serialize;

/// An error for a client. The message is written for people: field, value, limit, what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP status code.
    pub status: u16,
    /// OpenAI's `type`.
    pub kind: &'static str,
    /// What failed, on which value, the limit, what to do.
    pub message: String,
    /// Path of the field at fault, as `messages[2].content`.
    pub param: Option<String>,
    /// Machine-readable reason where there is one.
    pub code: Option<&'static str>,
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: Object<'a>,
}

#[derive(Serialize)]
struct Object<'a> {
    message: &'a str,
    r#type: &'a str,
    param: Option<&'a str>,
    code: Option<&'a str>,
}

impl ApiError {
    /// An error with no field and no code.
    pub fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            message: message.into(),
            param: None,
            code: None,
        }
    }

    /// 400 about the body as a whole.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request_error", message)
    }

    /// 400 about one field.
    pub fn field(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::bad_request(message).with_param(path)
    }

    /// 404 for a model that is not served.
    pub fn model_not_found(model: &str) -> Self {
        let shown = shorten(model);
        Self::new(
            404,
            "invalid_request_error",
            format!("The model `{shown}` does not exist. GET /v1/models lists those that do."),
        )
        .with_param("model")
        .with_code("model_not_found")
    }

    /// 400 for a prompt that leaves no room for a token of output.
    pub fn context_length(param: &str, prompt: usize, context: usize) -> Self {
        Self::field(
            param,
            format!(
                "The prompt has {prompt} tokens, but the model's context holds {context} tokens and at least one \
                 must be left for the answer. Shorten the prompt."
            ),
        )
        .with_code("context_length_exceeded")
    }

    /// The same, told from the text's bytes: `longest` of them are the most that a token stands for.
    pub fn context_bytes(param: &str, bytes: usize, longest: usize, context: usize) -> Self {
        let most = context.saturating_sub(1).saturating_mul(longest);
        Self::field(
            param,
            format!(
                "The prompt has {bytes} bytes, but the model's context holds {context} tokens, one of them for the \
                 answer: at most {most} bytes, as the vocabulary's longest token stands for {longest}. Shorten the \
                 prompt."
            ),
        )
        .with_code("context_length_exceeded")
    }

    /// 500 with a fixed text; the reason is in the log, under the request's id.
    pub fn internal() -> Self {
        Self::new(
            500,
            "server_error",
            "The server failed while handling this request. The server's log has the reason.",
        )
        .with_code("internal_error")
    }

    /// 501: known, and not served.
    pub fn not_served(message: impl Into<String>) -> Self {
        Self::new(501, "not_implemented_error", message).with_code("not_implemented")
    }

    /// 503: nothing can be served now, try later.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "server_error", message).with_code("unavailable")
    }

    /// Names the field at fault.
    pub fn with_param(mut self, path: impl Into<String>) -> Self {
        self.param = Some(path.into());
        self
    }

    /// Adds the machine-readable reason.
    pub fn with_code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// The error object as JSON text.
    pub fn to_json(&self) -> String {
        let envelope = Envelope {
            error: Object {
                message: &self.message,
                r#type: self.kind,
                param: self.param.as_deref(),
                code: self.code,
            },
        };
        serde_json::to_string(&envelope).expect("strings always serialize")
    }
}

/// At most 64 characters of a client's text, for use in a message.
pub fn shorten(text: &str) -> String {
    const SHOWN: usize = 64;
    match text.char_indices().nth(SHOWN) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}
