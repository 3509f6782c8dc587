// SPDX-License-Identifier: Apache-2.0

//! The cells that one shard writes.

use crate::buckets;
use crate::cell::{Counter, Histogram};

/// Why a request ended, as the label `finished_reason` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// End of sequence, stop id or stop string.
    Stop,
    /// No room or no tokens left.
    Length,
    /// The client left or the engine gave up.
    Abort,
    /// The engine failed.
    Error,
    /// The output repeated itself.
    Repetition,
}

impl Finish {
    /// Every reason, in the order of its cell.
    pub const ALL: [Self; 5] = [
        Self::Stop,
        Self::Length,
        Self::Abort,
        Self::Error,
        Self::Repetition,
    ];

    /// Value of the label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Abort => "abort",
            Self::Error => "error",
            Self::Repetition => "repetition",
        }
    }
}

/// Requests of one engine, as one shard saw them.
#[derive(Debug)]
pub struct RequestMetrics {
    /// Tokens of prompts.
    pub prompt_tokens: Counter,
    /// Tokens of prompts that the engine found in its cache.
    pub prompt_tokens_cached: Counter,
    /// Generated tokens.
    pub generation_tokens: Counter,
    /// Times the engine put a running request back.
    pub preemptions: Counter,
    success: [Counter; 5],
    /// Arrival to first token, seconds.
    pub first_token: Histogram,
    /// Between two outputs of a request, seconds.
    pub between_tokens: Histogram,
    /// Mean time per output token after the first, seconds.
    pub per_output_token: Histogram,
    /// Arrival to end, seconds.
    pub e2e: Histogram,
    /// Waiting in the engine, seconds.
    pub queue: Histogram,
    /// From scheduled to last token, seconds.
    pub inference: Histogram,
    /// From scheduled to first token, seconds.
    pub prefill: Histogram,
    /// From first to last token, seconds.
    pub decode: Histogram,
    /// Prompt length.
    pub request_prompt_tokens: Histogram,
    /// Output length.
    pub request_generation_tokens: Histogram,
    /// Longest output of the choices.
    pub max_generation_tokens: Histogram,
    /// Choices asked for.
    pub params_n: Histogram,
    /// Output tokens asked for.
    pub params_max_tokens: Histogram,
    /// Prompt tokens computed, not found in the cache.
    pub prefill_computed: Histogram,
}

impl RequestMetrics {
    fn new(context: u64) -> Self {
        let lengths = buckets::one_two_five(context);
        let request = || Histogram::new(buckets::REQUEST);
        let length = || Histogram::new(&lengths);
        Self {
            prompt_tokens: Counter::default(),
            prompt_tokens_cached: Counter::default(),
            generation_tokens: Counter::default(),
            preemptions: Counter::default(),
            success: Default::default(),
            first_token: Histogram::new(buckets::FIRST_TOKEN),
            between_tokens: Histogram::new(buckets::BETWEEN_TOKENS),
            per_output_token: Histogram::new(buckets::BETWEEN_TOKENS),
            e2e: request(),
            queue: request(),
            inference: request(),
            prefill: request(),
            decode: request(),
            request_prompt_tokens: length(),
            request_generation_tokens: length(),
            max_generation_tokens: length(),
            params_n: Histogram::new(buckets::CHOICES),
            params_max_tokens: length(),
            prefill_computed: length(),
        }
    }

    /// Requests that ended for a reason.
    pub fn success(&self, finish: Finish) -> &Counter {
        &self.success[finish as usize]
    }
}

/// A route as the HTTP metrics name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handler {
    /// Path of the route.
    pub path: &'static str,
    /// HTTP method.
    pub method: &'static str,
}

/// HTTP answers of one handler.
#[derive(Debug)]
pub struct HttpMetrics {
    /// By class of the status: 1xx to 5xx.
    pub statuses: [Counter; 5],
    /// Until the answer's head is ready, seconds.
    pub duration: Histogram,
}

impl HttpMetrics {
    fn new() -> Self {
        Self {
            statuses: Default::default(),
            duration: Histogram::new(buckets::HTTP),
        }
    }

    /// Records one answer.
    pub fn record(&self, status: u16, seconds: f64) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.statuses[class].inc();
        self.duration.observe(seconds);
    }
}

/// Everything one shard writes.
#[derive(Debug)]
pub struct ShardMetrics {
    pub(crate) engines: Box<[RequestMetrics]>,
    pub(crate) http: Box<[HttpMetrics]>,
    /// Requests refused because too many wait.
    pub rejected_requests: Counter,
    /// Requests refused because too many prompt tokens wait.
    pub rejected_tokens: Counter,
    /// Rendering a template, seconds.
    pub render: Histogram,
    /// Encoding a prompt, seconds.
    pub tokenize: Histogram,
    /// Writing a whole answer, or all events of a stream, seconds.
    pub write: Histogram,
}

impl ShardMetrics {
    pub(crate) fn new(engines: usize, handlers: usize, context: u64) -> Self {
        Self {
            engines: (0..engines).map(|_| RequestMetrics::new(context)).collect(),
            http: (0..handlers).map(|_| HttpMetrics::new()).collect(),
            rejected_requests: Counter::default(),
            rejected_tokens: Counter::default(),
            render: Histogram::new(buckets::STEP),
            tokenize: Histogram::new(buckets::STEP),
            write: Histogram::new(buckets::STEP),
        }
    }

    /// Requests of an engine, by its position from the first.
    #[inline]
    pub fn engine(&self, position: usize) -> &RequestMetrics {
        &self.engines[position.min(self.engines.len() - 1)]
    }

    /// Answers of a handler, by its position in the list given at start.
    pub fn handler(&self, position: usize) -> &HttpMetrics {
        &self.http[position]
    }
}
