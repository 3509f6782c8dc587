// SPDX-License-Identifier: Apache-2.0

//! Requests of one engine: waiting, running, gone.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;
use vllm_engine_client::protocol::EngineCoreRequest;

use crate::options::MockOptions;
use crate::prefix::PrefixCache;

/// Beyond this a row's arrays would need frames of their own, which the hand-written step lacks.
const INLINE_LOGPROBS: usize = 60;

/// A request and how far it has come.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) id: String,
    pub(crate) prompt_tokens: u64,
    pub(crate) produced: u64,
    /// Where in the engine's tokens the answer begins.
    pub(crate) first: u64,
    pub(crate) limit: u64,
    /// The limit is the double's own, not the request's: it ends with "stop".
    pub(crate) stops: bool,
    /// Candidates per token beside the sampled one.
    pub(crate) logprobs: Option<usize>,
    /// Tokens whose log probabilities are asked for instead of the likeliest.
    pub(crate) logprob_ids: Vec<u32>,
    /// Prompt tokens that are said, or were found, to be cached.
    pub(crate) cached_tokens: u64,
    /// Candidates per prompt token beside the actual one, until they are sent.
    pub(crate) prompt_logprobs: Option<usize>,
    not_before: Instant,
}

impl Request {
    pub(crate) fn new(request: EngineCoreRequest, options: &MockOptions) -> Self {
        let prompt_tokens = request
            .prompt_token_ids
            .as_ref()
            .map_or(0, |ids| ids.len() as u64);
        let last = request.prompt_token_ids.as_ref().and_then(|ids| ids.last());
        let first = last
            .filter(|_| options.from_prompt)
            .map_or(0, |id| u64::from(*id));
        let params = request.sampling_params.unwrap_or_default();
        let context = options.max_model_len.saturating_sub(prompt_tokens).max(1);
        let asked = params.max_tokens.unwrap_or(context);
        let own = options.output_len.unwrap_or(u64::MAX).max(1);
        let count = |k: i64| {
            usize::try_from(k)
                .unwrap_or(usize::MAX)
                .min(options.max_logprobs.min(INLINE_LOGPROBS))
        };
        Self {
            id: request.request_id,
            prompt_tokens,
            produced: 0,
            first,
            limit: asked.min(own).max(1),
            stops: own < asked,
            logprobs: params.logprobs.map(count),
            logprob_ids: params.logprob_token_ids.unwrap_or_default(),
            cached_tokens: options.cached_tokens.min(prompt_tokens.saturating_sub(1)),
            prompt_logprobs: params.prompt_logprobs.map(count),
            not_before: Instant::now() + options.latency(),
        }
    }

    pub(crate) fn is_last(&self) -> bool {
        self.produced + 1 >= self.limit
    }
}

/// All requests of an engine, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    pub(crate) waiting: VecDeque<Request>,
    pub(crate) running: Vec<Request>,
    pub(crate) prefixes: PrefixCache,
}

impl Requests {
    pub(crate) fn add(&mut self, request: Request) {
        self.waiting.push_back(request);
    }

    /// Removes a request; false when it is not there.
    pub(crate) fn abort(&mut self, id: &str) -> bool {
        let before = self.len();
        self.waiting.retain(|request| request.id != id);
        self.running.retain(|request| request.id != id);
        self.len() < before
    }

    /// Lets every request that runs reach its limit with its next token.
    pub(crate) fn finish(&mut self) {
        for request in &mut self.running {
            request.limit = request.produced + 1;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.running.len()
    }

    /// Moves requests whose latency has passed into the batch, up to its size.
    pub(crate) fn schedule(&mut self, max_batch: usize) {
        let now = Instant::now();
        while self.running.len() < max_batch
            && self
                .waiting
                .front()
                .is_some_and(|request| request.not_before <= now)
        {
            self.running.extend(self.waiting.pop_front());
        }
    }

    /// How long nothing can run, although something waits.
    pub(crate) fn idle_for(&self) -> Option<Duration> {
        let first = self.waiting.front()?;
        Some(first.not_before.saturating_duration_since(Instant::now()))
    }
}
