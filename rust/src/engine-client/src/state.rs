// SPDX-License-Identifier: Apache-2.0

//! What all shards and the transport share: engines, their load and health.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use vllm_zmtp::RouterSender;

use crate::balance::least_loaded;
use crate::error::{ConnectError, EngineFailure, StreamError, SubmitError};
use crate::inbox::{Inbox, ShardEvent};
use crate::protocol::{ReadyResponse, SchedulerStats, engine_identity};
use crate::request_id::Nonce;
use crate::utility::UtilityCalls;

/// Sizes of the engines together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Registration {
    /// Longest sequence in tokens: the smallest of all engines.
    pub max_model_len: u64,
    /// KV blocks of all engines.
    pub num_gpu_blocks: u64,
    /// Tokens per KV block.
    pub block_size: u64,
    /// Data type of activations.
    pub dtype: String,
    /// Release of the first engine.
    pub vllm_version: String,
    /// Running requests at most, over all engines.
    pub max_num_seqs: u64,
    /// Adapters can be loaded on every engine.
    pub supports_lora: bool,
    /// Sleep and wake up are available on every engine.
    pub enable_sleep_mode: bool,
    /// Each engine's own frame, by index.
    pub engines: Vec<(u32, ReadyResponse)>,
}

const DTYPES: [&str; 3] = ["float16", "bfloat16", "float32"];

impl Registration {
    /// Combines the frames of all engines, refusing what this frontend can't serve.
    pub(crate) fn combine(engines: Vec<(u32, ReadyResponse)>) -> Result<Self, ConnectError> {
        engines
            .iter()
            .try_for_each(|(index, frame)| check(*index, frame))?;
        let lora = engines
            .first()
            .is_some_and(|(_, frame)| frame.supports_lora);
        if let Some((index, frame)) = engines.iter().find(|(_, f)| f.supports_lora != lora) {
            return Err(unsupported(
                *index,
                "supports_lora",
                frame.supports_lora,
                "one value",
            ));
        }
        let frames = || engines.iter().map(|(_, frame)| frame);
        let first = frames().next().cloned().unwrap_or_default();
        Ok(Self {
            max_model_len: frames().map(|frame| frame.max_model_len).min().unwrap_or(0),
            num_gpu_blocks: frames().map(|frame| frame.num_gpu_blocks).sum(),
            block_size: first.block_size,
            dtype: first.dtype,
            vllm_version: first.vllm_version,
            max_num_seqs: frames().map(|frame| frame.max_num_seqs).sum(),
            supports_lora: lora,
            enable_sleep_mode: frames().all(|frame| frame.enable_sleep_mode),
            engines,
        })
    }
}

fn unsupported(
    index: u32,
    field: &'static str,
    value: impl std::fmt::Display,
    accepted: &'static str,
) -> ConnectError {
    ConnectError::Unsupported {
        index,
        field,
        value: value.to_string(),
        accepted,
    }
}

fn check(index: u32, frame: &ReadyResponse) -> Result<(), ConnectError> {
    if !DTYPES.contains(&frame.dtype.as_str()) {
        return Err(unsupported(
            index,
            "dtype",
            &frame.dtype,
            "float16, bfloat16, float32",
        ));
    }
    if frame.supports_lora != (frame.max_loras > 0) {
        let accepted = "true exactly when max_loras is above 0";
        return Err(unsupported(
            index,
            "supports_lora",
            frame.supports_lora,
            accepted,
        ));
    }
    if frame.dp_stats_address.is_some() {
        let accepted = "nil: a data-parallel coordinator is not supported yet";
        return Err(unsupported(
            index,
            "dp_stats_address",
            "an address",
            accepted,
        ));
    }
    Ok(())
}

/// Whether an engine takes requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineState {
    /// It does.
    Ready,
    /// It does not, and this is why. It may come back by registering again.
    Failed(EngineFailure),
}

/// One engine's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineHealth {
    /// Engine index.
    pub index: u32,
    /// Its state.
    pub state: EngineState,
}

/// Health of all engines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// One entry per engine.
    pub engines: Vec<EngineHealth>,
}

impl Health {
    /// True while at least one engine takes requests.
    pub fn is_ready(&self) -> bool {
        self.engines
            .iter()
            .any(|engine| engine.state == EngineState::Ready)
    }

    /// The reason of the first failed engine.
    pub fn failure(&self) -> Option<&EngineFailure> {
        self.engines.iter().find_map(|engine| match &engine.state {
            EngineState::Failed(failure) => Some(failure),
            EngineState::Ready => None,
        })
    }
}

/// An engine's gauges, and its counters since it registered.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EngineStats {
    /// Engine index.
    pub index: u32,
    /// Requests of this frontend that have not ended.
    pub in_flight: u64,
    /// Running requests.
    pub running: u64,
    /// Waiting requests.
    pub waiting: u64,
    /// Share of KV blocks in use, 0 to 1.
    pub kv_cache_usage: f64,
    /// Messages received.
    pub steps: u64,
    /// Tokens looked up in the prefix cache.
    pub prefix_cache_queries: u64,
    /// Tokens found there.
    pub prefix_cache_hits: u64,
    /// Label of the loaded weights.
    pub weight_version: Option<String>,
}

/// One engine, as routing sees it.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) index: u32,
    pub(crate) identity: Bytes,
    alive: AtomicBool,
    /// Counts registrations, so that a failure ends the requests before it and none after.
    epoch: AtomicU32,
    in_flight: AtomicUsize,
    /// Running and waiting by the last statistics, plus requests admitted since.
    load: AtomicU64,
    failure: Mutex<Option<EngineFailure>>,
    pub(crate) stats: Mutex<EngineStats>,
}

impl Engine {
    fn new(index: u32) -> Self {
        Self {
            index,
            identity: Bytes::copy_from_slice(&engine_identity(index as u16)),
            alive: AtomicBool::new(true),
            epoch: AtomicU32::new(0),
            in_flight: AtomicUsize::new(0),
            load: AtomicU64::new(0),
            failure: Mutex::new(None),
            stats: Mutex::new(EngineStats {
                index,
                ..EngineStats::default()
            }),
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::SeqCst)
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::SeqCst)
    }

    fn score(&self) -> Option<u64> {
        let own = self.in_flight.load(Ordering::Relaxed) as u64;
        self.is_alive()
            .then(|| own.max(self.load.load(Ordering::Relaxed)))
    }

    pub(crate) fn admit(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.load.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn release(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn record(&self, stats: Option<&SchedulerStats>, weight_version: Option<String>) {
        let mut own = self
            .stats
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        own.steps += 1;
        if weight_version.is_some() && own.weight_version != weight_version {
            own.weight_version = weight_version;
        }
        let Some(stats) = stats else { return };
        own.running = stats.num_running_reqs;
        own.waiting = stats.num_waiting_reqs;
        own.kv_cache_usage = stats.kv_cache_usage;
        own.prefix_cache_queries += stats.prefix_cache_stats.queries;
        own.prefix_cache_hits += stats.prefix_cache_stats.hits;
        let load = stats
            .num_running_reqs
            .saturating_add(stats.num_waiting_reqs);
        self.load.store(load, Ordering::Relaxed);
    }

    fn state(&self) -> EngineState {
        let failure = self
            .failure
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone();
        failure.map_or(EngineState::Ready, EngineState::Failed)
    }
}

/// Shared by the transport, the shards and callers on any thread.
pub(crate) struct Shared {
    pub(crate) engines: Vec<Engine>,
    pub(crate) start_index: u32,
    pub(crate) client_index: u32,
    pub(crate) router: RouterSender,
    pub(crate) nonce: Nonce,
    pub(crate) calls: UtilityCalls,
    pub(crate) stream_limit: usize,
    shards: Mutex<Vec<Arc<Inbox>>>,
    rotation: AtomicUsize,
    closed: AtomicBool,
}

impl Shared {
    pub(crate) fn new(
        start_index: u32,
        count: u32,
        client_index: u32,
        stream_limit: usize,
        router: RouterSender,
    ) -> Self {
        Self {
            engines: (start_index..start_index + count)
                .map(Engine::new)
                .collect(),
            start_index,
            client_index,
            router,
            nonce: Nonce::random(),
            calls: UtilityCalls::default(),
            stream_limit,
            shards: Mutex::new(Vec::new()),
            rotation: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// Position of an engine by its index.
    pub(crate) fn position(&self, index: u32) -> Option<usize> {
        let at = index.checked_sub(self.start_index)? as usize;
        (at < self.engines.len()).then_some(at)
    }

    fn shards(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Inbox>>> {
        self.shards
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Registers a shard; its number, or `None` beyond 256.
    pub(crate) fn add_shard(&self, inbox: Arc<Inbox>) -> Option<u8> {
        let mut shards = self.shards();
        let number = u8::try_from(shards.len()).ok()?;
        shards.push(inbox);
        Some(number)
    }

    /// Calls `act` with every shard's number and inbox.
    pub(crate) fn each_shard(&self, mut act: impl FnMut(usize, &Arc<Inbox>)) {
        self.shards()
            .iter()
            .enumerate()
            .for_each(|(at, inbox)| act(at, inbox));
    }

    /// Position of the engine for a request.
    pub(crate) fn route(&self, rank: Option<u32>) -> Result<usize, SubmitError> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(SubmitError::Shutdown);
        }
        if let Some(rank) = rank {
            return self.explicit(rank);
        }
        let count = self.engines.len();
        // One engine needs no turn, and shards then share no counter.
        let start = if count > 1 {
            self.rotation.fetch_add(1, Ordering::Relaxed)
        } else {
            0
        };
        least_loaded(|at| self.engines[at].score(), count, start).ok_or_else(|| self.no_engine(0))
    }

    fn explicit(&self, rank: u32) -> Result<usize, SubmitError> {
        let end = self.start_index + self.engines.len() as u32 - 1;
        let unknown = SubmitError::NoSuchRank {
            rank,
            start: self.start_index,
            end,
        };
        let at = self.position(rank).ok_or(unknown)?;
        if self.engines[at].is_alive() {
            Ok(at)
        } else {
            Err(self.no_engine(at))
        }
    }

    fn no_engine(&self, at: usize) -> SubmitError {
        match self.engines[at].state() {
            EngineState::Failed(failure) => SubmitError::NoEngine(failure),
            // It came back between the two looks.
            EngineState::Ready => SubmitError::Backlog {
                index: self.engines[at].index,
            },
        }
    }

    /// Takes an engine out and ends its streams and calls. True when it was in.
    pub(crate) fn fail_engine(&self, at: usize, failure: EngineFailure) -> bool {
        let engine = &self.engines[at];
        *engine
            .failure
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(failure.clone());
        if !engine.alive.swap(false, Ordering::SeqCst) {
            return false;
        }
        let event = ShardEvent::EngineFailed {
            engine: at,
            epoch: engine.epoch(),
            error: StreamError::Engine(failure),
        };
        self.each_shard(|_, inbox| inbox.event(event.clone()));
        self.calls.drop_engine(at);
        true
    }

    /// Takes an engine in again, after it registered anew.
    pub(crate) fn revive_engine(&self, at: usize) {
        let engine = &self.engines[at];
        engine.epoch.fetch_add(1, Ordering::SeqCst);
        engine.load.store(0, Ordering::Relaxed);
        *engine
            .failure
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner()) = None;
        engine.alive.store(true, Ordering::SeqCst);
    }

    /// Ends everything.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let event = ShardEvent::FailAll(StreamError::Shutdown);
        self.each_shard(|_, inbox| inbox.event(event.clone()));
        (0..self.engines.len()).for_each(|at| self.calls.drop_engine(at));
    }

    pub(crate) fn health(&self) -> Health {
        let engines = self.engines.iter();
        let engines = engines
            .map(|e| EngineHealth {
                index: e.index,
                state: e.state(),
            })
            .collect();
        Health { engines }
    }

    pub(crate) fn stats(&self) -> Vec<EngineStats> {
        let stats = |engine: &Engine| {
            let own = engine
                .stats
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            EngineStats {
                in_flight: engine.in_flight.load(Ordering::Relaxed) as u64,
                ..own.clone()
            }
        };
        self.engines.iter().map(stats).collect()
    }
}
