// SPDX-License-Identifier: Apache-2.0

//! When things happened to a choice, and the metrics made of it.
//!
//! Two clocks: the frontend's for what a client waits for, the engine's for its phases and for the time between
//! tokens. They are never mixed.

use std::time::Instant;

use vllm_engine_client::EngineOutput;
use vllm_metrics::{Finish, RequestMetrics, ShardMetrics};

/// Kinds of engine events.
const QUEUED: i64 = 1;
const SCHEDULED: i64 = 2;
const PREEMPTED: i64 = 3;

/// Times of one choice.
#[derive(Debug, Clone)]
pub struct Timing {
    arrival: Instant,
    engine: usize,
    prompt_tokens: usize,
    max_tokens: u32,
    choices: u32,
    /// Engine clock, seconds; 0 until known.
    queued: f64,
    scheduled: f64,
    first: f64,
    last: f64,
}

impl Timing {
    /// A choice of a request that arrived then.
    pub fn new(
        arrival: Instant,
        engine: usize,
        prompt_tokens: usize,
        max_tokens: u32,
        choices: u32,
    ) -> Self {
        Self {
            arrival,
            engine,
            prompt_tokens,
            max_tokens,
            choices,
            queued: 0.0,
            scheduled: 0.0,
            first: 0.0,
            last: 0.0,
        }
    }

    /// Cells of the choice's engine.
    pub fn engine<'a>(&self, cells: &'a ShardMetrics) -> &'a RequestMetrics {
        cells.engine(self.engine)
    }

    /// One engine output arrived.
    pub fn output(&mut self, output: &EngineOutput, cells: &ShardMetrics) {
        if let Some(rare) = &output.rare {
            for event in &rare.events {
                match event.kind {
                    QUEUED => self.queued = event.timestamp,
                    PREEMPTED => self.engine(cells).preemptions.inc(),
                    SCHEDULED if self.scheduled == 0.0 => self.scheduled = event.timestamp,
                    _ => {}
                }
            }
        }
        if output.new_token_ids.is_empty() {
            return;
        }
        if self.first == 0.0 {
            self.first_output(output, cells);
        } else {
            self.engine(cells)
                .between_tokens
                .observe((output.timestamp - self.last).max(0.0));
        }
        self.last = output.timestamp;
    }

    fn first_output(&mut self, output: &EngineOutput, cells: &ShardMetrics) {
        // An engine clock at zero would look like "not yet".
        self.first = output.timestamp.max(f64::MIN_POSITIVE);
        let engine = self.engine(cells);
        engine
            .first_token
            .observe(self.arrival.elapsed().as_secs_f64());
        engine.prompt_tokens.add(self.prompt_tokens as u64);
        let cached = output
            .prefill_stats
            .as_ref()
            .map_or(0, |stats| stats.num_cached_tokens);
        engine.prompt_tokens_cached.add(cached);
        engine
            .prefill_computed
            .observe((self.prompt_tokens as u64).saturating_sub(cached) as f64);
    }

    /// The choice is over.
    pub fn end(&self, finish: Finish, tokens: u32, cells: &ShardMetrics) {
        let engine = self.engine(cells);
        engine.success(finish).inc();
        engine.e2e.observe(self.arrival.elapsed().as_secs_f64());
        engine
            .request_prompt_tokens
            .observe(self.prompt_tokens as f64);
        engine.request_generation_tokens.observe(f64::from(tokens));
        engine.max_generation_tokens.observe(f64::from(tokens));
        engine.params_n.observe(f64::from(self.choices));
        engine.params_max_tokens.observe(f64::from(self.max_tokens));
        self.phases(tokens, engine);
    }

    fn phases(&self, tokens: u32, engine: &RequestMetrics) {
        if self.first == 0.0 {
            return;
        }
        let decode = (self.last - self.first).max(0.0);
        engine.decode.observe(decode);
        if tokens > 1 {
            engine
                .per_output_token
                .observe(decode / f64::from(tokens - 1));
        }
        if self.scheduled > 0.0 {
            engine
                .queue
                .observe((self.scheduled - self.queued).max(0.0));
            engine
                .prefill
                .observe((self.first - self.scheduled).max(0.0));
            engine
                .inference
                .observe((self.last - self.scheduled).max(0.0));
        }
    }
}
