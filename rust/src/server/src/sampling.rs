// SPDX-License-Identifier: Apache-2.0

//! From a request's sampling fields to the engine's parameters: defaults, limits of this model, token ids.

use std::collections::HashSet;

use vllm_engine_client::{RepetitionDetection, SamplingParams};
use vllm_openai::limits::MAX_PROMPT_LOGPROBS;
use vllm_openai::{ApiError, Options, Sampling};

use crate::model::Model;
use crate::prompt::Ids;

/// What a request left out and nobody else says.
const DEFAULT_TEMPERATURE: f64 = 1.0;

/// The parameters of one prompt's choices, without seed.
pub fn params(model: &Model, options: &Options, prompt: usize) -> Result<SamplingParams, ApiError> {
    let sampling = &options.sampling;
    check_ids(model, sampling)?;
    let named = options.logprob_token_ids.iter().copied();
    check(model, "logprob_token_ids", named)?;
    let defaults = &model.defaults;
    let max_tokens = max_tokens(model, sampling, prompt)?;
    let mut params = SamplingParams {
        temperature: sampling
            .temperature
            .or(defaults.temperature)
            .unwrap_or(DEFAULT_TEMPERATURE),
        top_p: sampling.top_p.or(defaults.top_p).unwrap_or(1.0),
        top_k: sampling.top_k.or(defaults.top_k).unwrap_or(0),
        min_p: sampling.min_p.or(defaults.min_p).unwrap_or(0.0),
        presence_penalty: sampling.presence_penalty.unwrap_or(0.0),
        frequency_penalty: sampling.frequency_penalty.unwrap_or(0.0),
        repetition_penalty: sampling
            .repetition_penalty
            .or(defaults.repetition_penalty)
            .unwrap_or(1.0),
        max_tokens: Some(u64::from(max_tokens.max(1))),
        min_tokens: u64::from(min_tokens(sampling, max_tokens)?),
        logprobs: options
            .logprobs
            .or(options.ranks().then_some(0))
            .map(i64::from),
        logprob_token_ids: (!options.logprob_token_ids.is_empty())
            .then(|| options.logprob_token_ids.clone()),
        prompt_logprobs: prompt_logprobs(options).map(i64::from),
        ignore_eos: sampling.ignore_eos,
        logit_bias: (!sampling.logit_bias.is_empty())
            .then(|| sampling.logit_bias.iter().copied().collect()),
        allowed_token_ids: (!sampling.allowed_token_ids.is_empty())
            .then(|| sampling.allowed_token_ids.clone()),
        bad_words: sampling.bad_words.clone(),
        bad_words_token_ids: bad_words(model, &sampling.bad_words)?,
        thinking_token_budget: sampling.thinking_token_budget.map(u64::from),
        repetition_detection: sampling.repetition_detection.map(repetition_detection),
        ..SamplingParams::default()
    };
    stops(model, sampling, &mut params);
    check_allowed(&params)?;
    Ok(params)
}

fn repetition_detection(given: vllm_openai::RepetitionDetection) -> RepetitionDetection {
    RepetitionDetection {
        max_pattern_size: given.max_pattern_size,
        min_pattern_size: given.min_pattern_size,
        min_count: given.min_count,
    }
}

/// At every step one of the allowed tokens can be chosen.
fn check_allowed(params: &SamplingParams) -> Result<(), ApiError> {
    let words = params.bad_words_token_ids.iter().flatten();
    // The last token of a word is banned where the answer ends with the rest of it.
    let mut forbidden: HashSet<u32> = words.filter_map(|word| word.last().copied()).collect();
    if params.min_tokens > 0 {
        forbidden.extend(&params.all_stop_token_ids);
    }
    match &params.allowed_token_ids {
        Some(allowed) if allowed.iter().all(|id| forbidden.contains(id)) => Err(ApiError::field(
            "allowed_token_ids",
            "`allowed_token_ids` has no token that can be generated: `bad_words` or `min_tokens` forbid each of them. \
             Allow another one.",
        )),
        _ => Ok(()),
    }
}

/// An echoed prompt has log probabilities where the answer has them.
fn prompt_logprobs(options: &Options) -> Option<u32> {
    options
        .prompt_logprobs
        .max(options.logprobs.filter(|_| options.echo))
}

/// Refuses more log probabilities of prompts than one answer may have: a short body can ask for millions.
pub fn check_prompt_logprobs(options: &Options, prompts: &[Ids]) -> Result<(), ApiError> {
    let Some(candidates) = prompt_logprobs(options) else {
        return Ok(());
    };
    let tokens: usize = prompts.iter().map(|prompt| prompt.len()).sum();
    let (choices, rows) = (options.candidates(), candidates as usize + 1);
    let asked = tokens * choices as usize * rows;
    if asked <= MAX_PROMPT_LOGPROBS {
        return Ok(());
    }
    let field = options
        .prompt_logprobs
        .map_or("logprobs", |_| "prompt_logprobs");
    let message = format!(
        "`{field}` asks for {asked} log probabilities of the prompt ({tokens} tokens, {choices} choices of each, \
         {rows} candidates per token); an answer has at most {MAX_PROMPT_LOGPROBS}. Ask for fewer candidates or choices."
    );
    Err(ApiError::field(field, message))
}

/// Stop ids: the request's, and unless they are to be ignored, every end of sequence that the model knows.
fn stops(model: &Model, sampling: &Sampling, params: &mut SamplingParams) {
    params.stop_token_ids = sampling.stop_token_ids.clone();
    if !sampling.ignore_eos {
        params.eos_token_id = model.eos;
        params.stop_token_ids.extend(model.extra_eos());
    }
    params.stop_token_ids.sort_unstable();
    params.stop_token_ids.dedup();
    params.all_stop_token_ids = params.stop_token_ids.clone();
    params.all_stop_token_ids.extend(params.eos_token_id);
}

/// What was asked for, or what is left of the context.
fn max_tokens(model: &Model, sampling: &Sampling, prompt: usize) -> Result<u32, ApiError> {
    let left = model.context - prompt as u32;
    match sampling.max_tokens {
        Some(wanted) => Ok(wanted.min(left)),
        None => Ok(model
            .defaults
            .max_new_tokens
            .map_or(left, |most| left.min(u32::try_from(most).unwrap_or(left)))),
    }
}

fn min_tokens(sampling: &Sampling, max_tokens: u32) -> Result<u32, ApiError> {
    let min = sampling.min_tokens.unwrap_or(0);
    if min > max_tokens {
        return Err(ApiError::field(
            "min_tokens",
            format!(
                "`min_tokens` is {min}, but at most {max_tokens} tokens can be generated after this prompt."
            ),
        ));
    }
    Ok(min)
}

/// Ids must exist in the model's vocabulary.
fn check_ids(model: &Model, sampling: &Sampling) -> Result<(), ApiError> {
    let bias = sampling.logit_bias.iter().map(|(id, _)| *id);
    check(model, "logit_bias", bias)?;
    check(
        model,
        "stop_token_ids",
        sampling.stop_token_ids.iter().copied(),
    )?;
    check(
        model,
        "allowed_token_ids",
        sampling.allowed_token_ids.iter().copied(),
    )
}

/// One list of ids.
pub fn check(
    model: &Model,
    field: &str,
    mut ids: impl Iterator<Item = u32>,
) -> Result<(), ApiError> {
    let vocab = model.vocab;
    match ids.find(|&id| id >= vocab) {
        None => Ok(()),
        Some(id) => Err(ApiError::field(
            field,
            format!("`{field}` has the token id {id}; the model's ids are below {vocab}."),
        )),
    }
}

/// A bad word is forbidden at the start of a text and, with a space before it, inside; as token ids. One that is
/// nothing but space, as a line feed, is forbidden as it is.
fn bad_words(model: &Model, words: &[String]) -> Result<Option<Vec<Vec<u32>>>, ApiError> {
    if words.is_empty() {
        return Ok(None);
    }
    let mut out: Vec<Vec<u32>> = Vec::with_capacity(2 * words.len());
    for word in words {
        let bare = word.trim_start();
        if bare.is_empty() {
            out.push(encode(model, word)?);
            continue;
        }
        let alone = encode(model, bare)?;
        let spaced = encode(model, &format!(" {bare}"))?;
        // A tokenizer that adds the space by itself gives the same ids twice; one that makes the space a
        // token of its own gives ids that would forbid the space.
        let useful = spaced.len() == alone.len() && spaced.first() != alone.first();
        out.extend((!alone.is_empty()).then_some(alone));
        out.extend(useful.then_some(spaced));
    }
    Ok(Some(out))
}

fn encode(model: &Model, text: &str) -> Result<Vec<u32>, ApiError> {
    let ids = model.tokenizer.encode(text, false);
    ids.map_err(|error| ApiError::field("bad_words", format!("`bad_words`: {error}.")))
}
