// SPDX-License-Identifier: Apache-2.0

//! Submitting: every choice becomes an engine request of its own.

use std::rc::Rc;
use std::time::Instant;

use http::HeaderMap;
use vllm_engine_client::{EngineCoreRequest, SamplingParams};
use vllm_openai::{ApiError, Options};
use vllm_tokenizer::StopStrings;

use crate::admission::{Permit, Seat};
use crate::app::{App, unix_now};
use crate::choice::{Choice, Parts, Place, Plan};
use crate::errors;
use crate::generation::timing::Timing;
use crate::generation::{Facts, Generation};
use crate::identity;
use crate::prompt::Ids;
use crate::routes::Head;
use crate::sampling;

/// Outputs that wait for the reader of a whole answer before it is woken: what it does with each is small.
const GATHERED: usize = 32;

/// Header that names the engine for a request.
const RANK: &str = "x-data-parallel-rank";

/// Everything a request says about itself besides its prompt.
pub struct Order<'a> {
    /// Id as the client sees it.
    pub id: String,
    /// When its head arrived.
    pub arrival: Instant,
    /// Validated fields.
    pub options: &'a Options,
    /// Headers.
    pub headers: &'a HeaderMap,
}

/// Checks what depends on the server's settings, before any work is done.
pub fn check(head: &Head, options: &Options) -> Result<(), ApiError> {
    let app = &head.app;
    if app.shared.phase.is_draining() {
        return Err(errors::shutting_down());
    }
    if let Some(name) = options
        .model
        .as_deref()
        .filter(|name| !app.model.answers_to(name))
    {
        return Err(ApiError::model_not_found(name));
    }
    let max = app.shared.config.max_logprobs;
    let named = options.logprob_token_ids.len() as u32;
    for (field, value) in [
        ("logprobs", options.logprobs),
        ("prompt_logprobs", options.prompt_logprobs),
        ("logprob_token_ids", Some(named)),
    ] {
        if let Some(value) = value.filter(|&value| value > max) {
            return Err(ApiError::field(
                field,
                format!(
                    "{value} log probabilities per token were asked for; this server gives at most {max}."
                ),
            ));
        }
    }
    if options.sampling.thinking_token_budget.is_some() && !app.shared.config.thinking_budgets {
        return Err(ApiError::field(
            "thinking_token_budget",
            "`thinking_token_budget` needs a server that knows where the model's thoughts begin and end: one started \
             with --reasoning-config. Leave it out.",
        )
        .with_code("unsupported_field"));
    }
    if let Some(name) = options
        .unknown
        .first()
        .filter(|_| app.shared.config.strict_fields)
    {
        return Err(ApiError::field(
            name,
            format!("`{name}` is not known here, and this server takes known fields only (--strict-fields)."),
        )
        .with_code("unknown_field"));
    }
    if !options.unknown.is_empty() {
        tracing::debug!(request = head.id, fields = ?options.unknown, "ignoring fields that are not known here");
    }
    Ok(())
}

/// A seat for every choice of so many prompts, before any work is done for them.
pub fn admit(head: &Head, options: &Options, prompts: usize) -> Result<Permit, ApiError> {
    check(head, options)?;
    let choices = prompts * options.candidates() as usize;
    let admission = &head.app.shared.admission;
    admission.check_width(choices)?;
    admission
        .admit(choices)
        .map_err(|full| errors::busy(&head.app, full))
}

/// Sends every choice to an engine. If one cannot be sent, dropping the others aborts them.
pub fn submit(
    app: &Rc<App>,
    order: &Order<'_>,
    permit: Permit,
    prompts: Vec<Ids>,
) -> Result<Generation, ApiError> {
    let options = order.options;
    let per_prompt = options.candidates() as usize;
    let width = prompts.len() * per_prompt;
    sampling::check_prompt_logprobs(options, &prompts)?;
    let mut seats = permit
        .seats(|choice| prompts[choice / per_prompt].len())
        .map_err(|full| errors::busy(app, full))?;
    let plan = Rc::new(plan(app, options, &prompts));
    let mut choices = Vec::with_capacity(width);
    for (prompt, ids) in prompts.iter().enumerate() {
        let params = sampling::params(&app.model, options, ids.len())?;
        for n in 0..options.candidates() {
            let index = choices.len() as u32;
            let seat = seats.next().expect("a seat was taken for every choice");
            let place = Place { index, prompt };
            let own = Own { place, n, seat };
            choices.push(choice(app, order, &plan, own, ids, params.clone())?);
        }
    }
    let model = options
        .model
        .clone()
        .unwrap_or_else(|| app.model.name().to_owned());
    let id = order.id.clone();
    let facts = Facts {
        app: app.clone(),
        id,
        model,
        created: unix_now() as u64,
        plan,
        prompts,
    };
    Ok(Generation::new(facts, choices))
}

fn plan(app: &App, options: &Options, prompts: &[Ids]) -> Plan {
    let sampling = &options.sampling;
    let skip_special = sampling.skip_special_tokens.unwrap_or(true);
    let text = |ids: &Ids| app.model.tokenizer.decode(ids, skip_special);
    Plan {
        choices: prompts.len() * options.candidates() as usize,
        answered: options.choices() as usize,
        ranked: options.ranks(),
        echo: prompts.iter().filter(|_| options.echo).map(text).collect(),
        matcher: StopStrings::new(sampling.stop.iter().map(String::as_str)),
        stop: sampling.stop.clone(),
        min_tokens: sampling.min_tokens.unwrap_or(0),
        include_stop: sampling.include_stop_str_in_output,
        prompt_only: options.prompt_only(),
        logprobs: shown_logprobs(options),
        tokens_as_ids: options.return_tokens_as_token_ids,
        token_ids: options.return_token_ids,
        prompt_logprobs: options.prompt_logprobs.is_some(),
    }
}

/// How many candidates per token the answer shows: the likeliest, or those that were named.
fn shown_logprobs(options: &Options) -> Option<u32> {
    let named = options.logprob_token_ids.len() as u32;
    options.logprobs.map(|likeliest| likeliest.max(named))
}

/// What a choice is told besides what all choices of its request share.
struct Own {
    place: Place,
    /// From 0 for each prompt.
    n: u32,
    seat: Seat,
}

fn choice(
    app: &Rc<App>,
    order: &Order<'_>,
    plan: &Rc<Plan>,
    own: Own,
    ids: &Ids,
    mut params: SamplingParams,
) -> Result<Choice, ApiError> {
    let options = order.options;
    params.seed = options
        .sampling
        .seed
        .map(|seed| i128::from(seed) + i128::from(own.n));
    let max_tokens = params.max_tokens.unwrap_or(0) as u32;
    let request = EngineCoreRequest {
        prompt_token_ids: Some(ids.clone()),
        sampling_params: Some(params),
        arrival_time: unix_now(),
        cache_salt: options.cache_salt.clone(),
        data_parallel_rank: rank(order.headers)?,
        priority: i64::from(identity::priority(options.priority, order.headers)?),
        trace_headers: identity::trace(order.headers),
        external_req_id: Some(order.id.clone()),
        session_id: identity::session(options.session_id.as_deref(), order.headers),
        ..EngineCoreRequest::default()
    };
    let stream = app
        .engine
        .submit_one_of(plan.choices, request)
        .map_err(|error| errors::submit_error(error, &order.id))?;
    // Where a stop string may end the text, every token is looked at as it comes.
    if !options.stream && plan.matcher.is_empty() {
        stream.gather(GATHERED);
    }
    let skip_special = options.sampling.skip_special_tokens.unwrap_or(true);
    let detokenizer = app.model.tokenizer.detokenizer(ids, skip_special);
    let first = app.shared.first_engine;
    let engine = stream.engine_index().saturating_sub(first) as usize;
    let timing = Timing::new(
        order.arrival,
        engine,
        ids.len(),
        max_tokens,
        options.choices(),
    );
    Ok(Choice::new(Parts {
        place: own.place,
        seat: own.seat,
        plan: plan.clone(),
        stream,
        detokenizer,
        timing,
    }))
}

fn rank(headers: &HeaderMap) -> Result<Option<u32>, ApiError> {
    let Some(value) = headers.get(RANK) else {
        return Ok(None);
    };
    let rank = value.to_str().ok().and_then(|text| text.parse().ok());
    let message = "The header X-data-parallel-rank must be a number from 0.";
    rank.map(Some)
        .ok_or_else(|| ApiError::field("X-data-parallel-rank", message))
}
