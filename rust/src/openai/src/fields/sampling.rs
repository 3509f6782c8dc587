// SPDX-License-Identifier: Apache-2.0

//! How tokens are chosen, how many, and when they end.

use indexmap::IndexMap;
use serde_json::value::RawValue;

use super::rule::{
    Field, Routes as R,
    Rule::{Bool, Float, Ids, Int, Json, TextList, TextOrList},
    above, range, row,
};
use crate::error::ApiError;
use crate::generate;
use crate::limits::*;
use crate::request::{Draft, RepetitionDetection};

const U32: (i64, i64) = (0, u32::MAX as i64);

/// How tokens are chosen, how many, and when they end.
pub(super) static FIELDS: &[Field] = &[
    row(
        "allowed_token_ids",
        R::SAMPLED,
        "Only these tokens are generated.",
        Ids(MAX_ALLOWED_TOKEN_IDS, |d, v| {
            d.options.sampling.allowed_token_ids = v
        }),
    ),
    row(
        "bad_words",
        R::SAMPLED,
        "Texts that are not generated.",
        TextList((MAX_BAD_WORDS, MAX_STOP_BYTES), |d, v| {
            d.options.sampling.bad_words = v
        }),
    ),
    row(
        "best_of",
        R::BOTH,
        "Candidates per prompt, of which the `n` likeliest per token are answered; not with `stream`.",
        Int((1, MAX_N), |d, v| d.options.best_of = Some(v as u32)),
    ),
    row(
        "frequency_penalty",
        R::SAMPLED,
        "Lowers the logit of a token for each time it was generated.",
        Float(range(PENALTY), |d, v| {
            d.options.sampling.frequency_penalty = Some(v)
        }),
    ),
    row(
        "ignore_eos",
        R::SAMPLED,
        "The end-of-sequence token does not end the answer.",
        Bool(|d, v| d.options.sampling.ignore_eos = v),
    ),
    row(
        "logit_bias",
        R::SAMPLED,
        "Token id to a number added to its logit; values are clamped to -100 to 100.",
        Json("an object of token id to bias", read_logit_bias),
    ),
    row(
        "max_completion_tokens",
        R::CHAT,
        "Most tokens of an answer; wins over `max_tokens`.",
        Int((1, U32.1), |d, v| d.max_completion_tokens = Some(v as u32)),
    ),
    row(
        "max_tokens",
        R::CHAT_OR_SAMPLING,
        "Most tokens of an answer; by default what the context leaves.",
        Int((1, U32.1), |d, v| {
            d.options.sampling.max_tokens = Some(v as u32)
        }),
    ),
    row(
        "max_tokens",
        R::COMPLETIONS,
        "Most tokens of an answer, 16 by default; 0 with `echo` or `prompt_logprobs`, for the prompt alone.",
        Int(U32, |d, v| d.options.sampling.max_tokens = Some(v as u32)),
    ),
    row(
        "min_p",
        R::SAMPLED,
        "Least probability of a token relative to the likeliest one.",
        Float(range((0.0, 1.0)), |d, v| d.options.sampling.min_p = Some(v)),
    ),
    row(
        "min_tokens",
        R::SAMPLED,
        "Nothing ends the answer before so many tokens.",
        Int(U32, |d, v| d.options.sampling.min_tokens = Some(v as u32)),
    ),
    row(
        "n",
        R::SAMPLED,
        "Choices per prompt.",
        Int((1, MAX_N), |d, v| d.options.n = Some(v as u32)),
    ),
    row(
        "presence_penalty",
        R::SAMPLED,
        "Lowers the logit of a token that was generated.",
        Float(range(PENALTY), |d, v| {
            d.options.sampling.presence_penalty = Some(v)
        }),
    ),
    row(
        "repetition_detection",
        R::SAMPLED,
        "Ends an answer whose last tokens are `min_count` times the same pattern of `min_pattern_size` to `max_pattern_size` tokens.",
        Json(
            "an object with max_pattern_size, min_pattern_size, min_count",
            read_repetition_detection,
        ),
    ),
    row(
        "repetition_penalty",
        R::SAMPLED,
        "Divides or multiplies logits of tokens of prompt and answer.",
        Float(above(0.0, MAX_REPETITION_PENALTY), |d, v| {
            d.options.sampling.repetition_penalty = Some(v)
        }),
    ),
    row(
        "sampling_params",
        R::GENERATE,
        "How tokens are chosen, by the names that completions use.",
        Json(
            "an object of sampling fields",
            generate::read_sampling_params,
        ),
    ),
    row(
        "seed",
        R::SAMPLED,
        "Makes sampling repeatable; choice i gets seed + i.",
        Int((i64::MIN, i64::MAX), |d, v| {
            d.options.sampling.seed = Some(v)
        }),
    ),
    row(
        "stop",
        R::SAMPLED,
        "Texts that end the answer.",
        TextOrList((MAX_STOP_STRINGS, MAX_STOP_BYTES), |d, v| {
            d.options.sampling.stop = v
        }),
    ),
    row(
        "stop_token_ids",
        R::SAMPLED,
        "Tokens that end the answer.",
        Ids(MAX_STOP_TOKEN_IDS, |d, v| {
            d.options.sampling.stop_token_ids = v
        }),
    ),
    row(
        "temperature",
        R::SAMPLED,
        "0 is greedy; the model's default otherwise.",
        Float(range(TEMPERATURE), |d, v| {
            d.options.sampling.temperature = Some(v)
        }),
    ),
    row(
        "thinking_token_budget",
        R::SAMPLED,
        "Most tokens of thinking, then the thought is closed; -1: no limit. For servers started with --reasoning-config.",
        Int((-1, U32.1), |d, v| {
            d.options.sampling.thinking_token_budget = u32::try_from(v).ok()
        }),
    ),
    row(
        "top_k",
        R::SAMPLED,
        "Most candidates for a token; 0 and -1: all.",
        Int((-1, i32::MAX as i64), |d, v| {
            d.options.sampling.top_k = Some(v)
        }),
    ),
    row(
        "top_p",
        R::SAMPLED,
        "Probability mass of the candidates for a token.",
        Float(above(0.0, 1.0), |d, v| d.options.sampling.top_p = Some(v)),
    ),
];

/// `{"50256": -100}`: keys are token ids, values are clamped to [-100, 100].
fn read_logit_bias(draft: &mut Draft, path: &str, raw: &RawValue) -> Result<(), ApiError> {
    use crate::{body, capped};
    let expected = "an object of token id to number";
    let pairs = capped::object(path, raw, MAX_LOGIT_BIAS, expected)?;
    let mut bias = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        let id = token_id(path, &key)?;
        let value: f64 = body::parse(&format!("{path}.{id}"), value, "a number")?;
        bias.push((id, value.clamp(LOGIT_BIAS.0, LOGIT_BIAS.1)));
    }
    draft.options.sampling.logit_bias = bias;
    Ok(())
}

const SIZES: [&str; 3] = ["max_pattern_size", "min_pattern_size", "min_count"];

/// `{"max_pattern_size": 20, "min_count": 4}`; a largest size of 0 asks for nothing.
fn read_repetition_detection(
    draft: &mut Draft,
    path: &str,
    raw: &RawValue,
) -> Result<(), ApiError> {
    let expected = "an object of three sizes";
    let members = crate::capped::object(path, raw, MAX_MEMBERS, expected)?;
    let sizes = RepetitionDetection {
        max_pattern_size: size(path, &members, "max_pattern_size", 0)?,
        min_pattern_size: size(path, &members, "min_pattern_size", 0)?,
        min_count: 0,
    };
    let (least, most) = (sizes.min_pattern_size, sizes.max_pattern_size);
    if least > most {
        let message = format!(
            "`{path}.min_pattern_size` is {least}, above `{path}.max_pattern_size`, which is {most}."
        );
        return Err(ApiError::field(format!("{path}.min_pattern_size"), message));
    }
    let at_least = if most == 0 { 0 } else { 2 };
    let min_count = size(path, &members, "min_count", at_least)?;
    draft.options.sampling.repetition_detection =
        (most > 0).then_some(RepetitionDetection { min_count, ..sizes });
    crate::body::note_unknown_members(draft, path, &members, &SIZES);
    Ok(())
}

/// One of its members, 0 where it is left out.
fn size(
    path: &str,
    members: &IndexMap<String, &RawValue>,
    name: &str,
    least: u64,
) -> Result<u64, ApiError> {
    let path = format!("{path}.{name}");
    let expected = format!("a whole number from {least} to {MAX_PATTERN_SIZE}");
    let given = members.get(name).filter(|raw| raw.get() != "null");
    let value = given.map_or(Ok(0), |raw| crate::body::parse(&path, raw, &expected))?;
    if (least..=MAX_PATTERN_SIZE).contains(&value) {
        return Ok(value);
    }
    let message = format!("`{path}` is {value}; it must be {expected}.");
    Err(ApiError::field(path, message))
}

fn token_id(path: &str, key: &str) -> Result<u32, ApiError> {
    // `parse` takes a plus sign.
    let digits = key.bytes().all(|byte| byte.is_ascii_digit());
    let id = key
        .parse::<u32>()
        .ok()
        .filter(|_| digits)
        .filter(|&id| i64::from(id) <= MAX_TOKEN_ID);
    id.ok_or_else(|| {
        let shown = crate::error::shorten(key);
        ApiError::field(
            path,
            format!("`{path}` has the key \"{shown}\", which is not a token id."),
        )
    })
}
