// SPDX-License-Identifier: Apache-2.0

//! `POST /inference/v1/generate`: token ids in, token ids out.

use serde_json::value::RawValue;

use crate::body;
use crate::completions::Prompt;
use crate::error::ApiError;
use crate::fields::Routes;
use crate::request::{Draft, Options};

/// A validated request. What it says about sampling stands in `sampling_params`, by the names that chat and
/// completions use.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateRequest {
    /// Fields shared with chat and completions.
    pub options: Options,
    /// The prompt.
    pub token_ids: Vec<u32>,
}

impl GenerateRequest {
    /// Reads and validates a body.
    pub fn from_json(body: &[u8]) -> Result<Self, ApiError> {
        let mut draft = body::read(body, Routes::GENERATE)?;
        let token_ids = match draft.prompts.take() {
            Some(Prompt::Ids(mut lists)) => lists.pop().unwrap_or_default(),
            _ => {
                return Err(ApiError::field(
                    "token_ids",
                    "`token_ids` is missing: send a list of at least one token id.",
                ));
            }
        };
        draft.options.check()?;
        // The answer is nothing but token ids.
        draft.options.return_token_ids = true;
        Ok(Self {
            options: draft.options,
            token_ids,
        })
    }
}

pub(crate) fn read_token_ids(
    draft: &mut Draft,
    path: &str,
    raw: &RawValue,
) -> Result<(), ApiError> {
    let ids: Vec<u32> = body::parse(path, raw, "a list of token ids")?;
    body::check_ids(path, &ids)?;
    draft.prompts = (!ids.is_empty()).then(|| Prompt::Ids(vec![ids]));
    Ok(())
}

/// The members are rows of the table, as are those of the request itself.
pub(crate) fn read_sampling_params(
    draft: &mut Draft,
    path: &str,
    raw: &RawValue,
) -> Result<(), ApiError> {
    if !raw.get().starts_with('{') {
        return Err(body::mismatch(
            path,
            raw.get(),
            "an object of sampling fields",
        ));
    }
    body::read_into(draft, raw.get().as_bytes(), Routes::SAMPLING)
        .map_err(|error| within(path, error))
}

/// Names the whole path of a field.
fn within(path: &str, mut error: ApiError) -> ApiError {
    if let Some(param) = error.param.take() {
        let whole = format!("{path}.{param}");
        error.message = error
            .message
            .replacen(&format!("`{param}`"), &format!("`{whole}`"), 1);
        error.param = Some(whole);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<GenerateRequest, ApiError> {
        GenerateRequest::from_json(body.as_bytes())
    }

    #[test]
    fn sampling_is_read_by_the_same_table() {
        let request = read(
            r#"{"token_ids": [1, 2], "sampling_params": {"max_tokens": 3, "temperature": 0, "stop": "x",
                "logprobs": 2, "n": 2, "x": 1}, "request_id": "r", "priority": 1}"#,
        )
        .expect("valid");
        assert_eq!(request.token_ids, [1, 2]);
        let options = &request.options;
        assert_eq!((options.choices(), options.logprobs), (2, Some(2)));
        assert_eq!(options.sampling.max_tokens, Some(3));
        assert_eq!(
            (options.priority, options.return_token_ids),
            (Some(1), true)
        );
        assert_eq!(options.unknown, ["x"]);
    }

    #[test]
    fn errors_name_the_whole_path() {
        for (body, param) in [
            (r#"{}"#, "token_ids"),
            (r#"{"token_ids": []}"#, "token_ids"),
            (r#"{"token_ids": ["a"]}"#, "token_ids"),
            (
                r#"{"token_ids": [1], "sampling_params": 5}"#,
                "sampling_params",
            ),
            (
                r#"{"token_ids": [1], "sampling_params": {"temperature": 9}}"#,
                "sampling_params.temperature",
            ),
            (r#"{"token_ids": [1], "max_tokens": 5}"#, "max_tokens"),
            (r#"{"token_ids": [1], "logprobs": 5}"#, "logprobs"),
            (r#"{"token_ids": [1], "prompt": "x"}"#, "prompt"),
            (
                r#"{"token_ids": [1], "sampling_params": {"best_of": 2}}"#,
                "sampling_params.best_of",
            ),
            (
                r#"{"token_ids": [1], "sampling_params": {"stream": true}}"#,
                "sampling_params.stream",
            ),
        ] {
            let error = read(body).expect_err("must be refused");
            assert_eq!(error.param.as_deref(), Some(param), "{body}");
            assert!(
                error.message.contains(&format!("`{param}`")),
                "{}",
                error.message
            );
        }
    }
}
