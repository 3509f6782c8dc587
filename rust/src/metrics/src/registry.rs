// SPDX-License-Identifier: Apache-2.0

//! All shards' cells, and what the engines report about themselves.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use crate::shard::{Handler, ShardMetrics};
use crate::step_tokens::StepTokens;

/// Facts about the service that do not change.
#[derive(Debug, Clone, Default)]
pub struct Info {
    /// Label `model_name`.
    pub model_name: String,
    /// Index of the first engine.
    pub first_engine: u32,
    /// How many engines.
    pub engines: usize,
    /// Context length, which ends the length buckets.
    pub context: u64,
    /// Labels of `vllm:cache_config_info`.
    pub cache_config: Vec<(&'static str, String)>,
}

/// What an engine said last, and what it said in total. Read at scrape time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct EngineGauges {
    /// Requests in the batch.
    pub running: u64,
    /// Requests that wait.
    pub waiting: u64,
    /// Part of the KV cache in use, 0 to 1.
    pub kv_cache_usage: f64,
    /// Prompt tokens looked up in the prefix cache.
    pub prefix_cache_queries: u64,
    /// Prompt tokens found there.
    pub prefix_cache_hits: u64,
    /// Its steps by their tokens.
    pub step_tokens: StepTokens,
}

/// What was let into the frontend. Read at scrape time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct QueueGauges {
    /// Choices that have not ended.
    pub choices: u64,
    /// Choices without output.
    pub waiting: u64,
    /// Prompt tokens of choices without output.
    pub tokens: u64,
}

/// What the process counts beside its requests. Whoever counts holds the same cell.
#[derive(Debug, Clone, Default)]
pub struct ProcessCounters {
    /// Log lines that nobody read in time.
    pub log_lines_dropped: Arc<AtomicU64>,
    /// Connections that were closed unserved: too many were open, or no descriptor was left.
    pub connections_refused: Arc<AtomicU64>,
}

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    pub(crate) info: Info,
    pub(crate) process: ProcessCounters,
    pub(crate) handlers: Vec<Handler>,
    /// Locked when a shard opens and when a page is written, never by a request.
    pub(crate) shards: Mutex<Vec<Arc<ShardMetrics>>>,
}

impl Metrics {
    /// Metrics of a service with these routes.
    pub fn new(info: Info, handlers: Vec<Handler>, process: ProcessCounters) -> Arc<Self> {
        Arc::new(Self {
            info,
            process,
            handlers,
            shards: Mutex::default(),
        })
    }

    /// Cells for a new shard. They live as long as the process, for counters never go back.
    pub fn open_shard(&self) -> Arc<ShardMetrics> {
        let shard = ShardMetrics::new(
            self.info.engines.max(1),
            self.handlers.len(),
            self.info.context,
        );
        let shard = Arc::new(shard);
        self.shards
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .push(shard.clone());
        shard
    }
}
