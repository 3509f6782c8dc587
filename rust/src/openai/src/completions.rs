// SPDX-License-Identifier: Apache-2.0

//! `POST /v1/completions`: the request.

use serde_json::value::RawValue;

use crate::body;
use crate::capped;
use crate::error::ApiError;
use crate::fields::Routes;
use crate::limits::{MAX_CHOICES, MAX_PROMPTS};
use crate::request::{Draft, Options};

/// What OpenAI's completions generate when `max_tokens` is left out.
pub const DEFAULT_MAX_TOKENS: u32 = 16;

/// The prompts of a request, at least one, all of one form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// Texts.
    Texts(Vec<String>),
    /// Lists of token ids, each with at least one id.
    Ids(Vec<Vec<u32>>),
}

impl Prompt {
    /// How many prompts.
    pub fn len(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.len(),
            Self::Ids(lists) => lists.len(),
        }
    }

    /// Never true for a validated request.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A validated completions request.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletionRequest {
    /// Fields shared with chat.
    pub options: Options,
    /// What to continue.
    pub prompt: Prompt,
}

impl CompletionRequest {
    /// Reads and validates a body.
    pub fn from_json(body: &[u8]) -> Result<Self, ApiError> {
        let mut draft = body::read(body, Routes::COMPLETIONS)?;
        let prompt = draft.prompts.take().ok_or_else(|| {
            ApiError::field(
                "prompt",
                "`prompt` is missing: send a string, token ids, or a list of either.",
            )
        })?;
        draft
            .options
            .sampling
            .max_tokens
            .get_or_insert(DEFAULT_MAX_TOKENS);
        draft.options.check()?;
        check_choices(prompt.len(), &draft.options)?;
        Ok(Self {
            options: draft.options,
            prompt,
        })
    }
}

fn check_choices(prompts: usize, options: &Options) -> Result<(), ApiError> {
    let n = options.candidates();
    let name = if options.ranks() { "best_of" } else { "n" };
    let choices = prompts * n as usize;
    if choices > MAX_CHOICES {
        return Err(ApiError::field(
            name,
            format!(
                "{prompts} prompts with `{name}` = {n} are {choices} choices; at most {MAX_CHOICES} are served at once."
            ),
        ));
    }
    Ok(())
}

pub(crate) fn read_prompt(draft: &mut Draft, path: &str, raw: &RawValue) -> Result<(), ApiError> {
    let prompt = prompt(path, raw)?;
    check_prompt(path, &prompt)?;
    draft.prompts = Some(prompt);
    Ok(())
}

const EXPECTED: &str =
    "a string, a list of token ids, a list of strings, or a list of lists of token ids";

/// The form follows from the first character and the first entry.
fn prompt(path: &str, raw: &RawValue) -> Result<Prompt, ApiError> {
    let text = raw.get();
    if text.starts_with('"') {
        return Ok(Prompt::Texts(vec![body::parse(path, raw, EXPECTED)?]));
    }
    let first = text
        .strip_prefix('[')
        .map(|rest| rest.trim_start().as_bytes().first());
    match first {
        Some(Some(b'"')) => Ok(Prompt::Texts(capped::list(
            path,
            raw,
            MAX_PROMPTS,
            EXPECTED,
        )?)),
        Some(Some(b'[')) => Ok(Prompt::Ids(capped::list(path, raw, MAX_PROMPTS, EXPECTED)?)),
        Some(Some(b'0'..=b'9')) => Ok(Prompt::Ids(vec![body::parse(path, raw, EXPECTED)?])),
        Some(Some(b']')) => Err(ApiError::field(
            path,
            format!("`{path}` must not be an empty list."),
        )),
        _ => Err(body::mismatch(path, text, EXPECTED)),
    }
}

fn check_prompt(path: &str, prompt: &Prompt) -> Result<(), ApiError> {
    let Prompt::Ids(lists) = prompt else {
        return Ok(());
    };
    for (i, ids) in lists.iter().enumerate() {
        let path = if lists.len() == 1 {
            path.to_owned()
        } else {
            format!("{path}[{i}]")
        };
        if ids.is_empty() {
            return Err(ApiError::field(
                &path,
                format!("`{path}` must have at least one token id."),
            ));
        }
        body::check_ids(&path, ids)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
