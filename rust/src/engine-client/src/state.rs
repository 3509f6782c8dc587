// SPDX-License-Identifier: Apache-2.0

//! What all shards and the transport share: engines, their load and health.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use vllm_zmtp::RouterSender;

use crate::balance::{Load, least_loaded};
use crate::error::{EngineFailure, StreamError, SubmitError};
use crate::inbox::{Inbox, ShardEvent};
use crate::protocol::{SchedulerStats, engine_identity};
use crate::request_id::Nonce;
use crate::utility::UtilityCalls;

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
    /// Running and waiting by the last statistics, less this frontend's own: of other frontends.
    others: AtomicUsize,
    /// Requests stopped lately, which statistics may still count.
    stopped: AtomicUsize,
    /// Requests without any output yet.
    unstarted: AtomicUsize,
    /// Messages it must send until a dropped request without output is surely out of its step.
    abandoned: AtomicU32,
    /// Requests waited by the last statistics; preempted ones do too.
    queued: AtomicBool,
    /// Messages received, of whatever kind.
    messages: AtomicU64,
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
            others: AtomicUsize::new(0),
            stopped: AtomicUsize::new(0),
            unstarted: AtomicUsize::new(0),
            abandoned: AtomicU32::new(0),
            queued: AtomicBool::new(false),
            messages: AtomicU64::new(0),
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

    fn load(&self) -> Option<Load> {
        self.is_alive().then(|| Load {
            own: self.in_flight.load(Ordering::Relaxed),
            others: self.others.load(Ordering::Relaxed),
        })
    }

    /// Admits a request unless the engine's own load has changed since it was looked at: shards
    /// that route at the same moment must not all choose the same engine.
    fn admit_if(&self, own: usize) -> bool {
        let (count, relaxed) = (&self.in_flight, Ordering::Relaxed);
        let admitted = count.compare_exchange(own, own + 1, relaxed, relaxed);
        if admitted.is_ok() {
            self.unstarted.fetch_add(1, relaxed);
        }
        admitted.is_ok()
    }

    fn admit(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.unstarted.fetch_add(1, Ordering::Relaxed);
    }

    /// A request was stopped from this side.
    pub(crate) fn stop(&self) {
        self.stopped.fetch_add(1, Ordering::Relaxed);
    }

    /// Statistics came that count this many requests.
    fn count_others(&self, total: u64) {
        let total = usize::try_from(total).unwrap_or(usize::MAX);
        let own = self.in_flight.load(Ordering::Relaxed);
        let stopped = self.stopped.load(Ordering::Relaxed);
        let others = total.saturating_sub(own.saturating_add(stopped));
        self.others.store(others, Ordering::Relaxed);
    }

    /// Statistics that come from now on have seen the requests that were stopped.
    pub(crate) fn forget_stopped(&self) {
        self.stopped.store(0, Ordering::Relaxed);
    }

    /// Statistics that are not renewed say nothing: an engine that is idle sends none.
    pub(crate) fn forget_others(&self) {
        self.others.store(0, Ordering::Relaxed);
    }

    /// A request's first output came.
    pub(crate) fn start(&self) {
        self.unstarted.fetch_sub(1, Ordering::Relaxed);
    }

    /// A request ended, with or without any output.
    pub(crate) fn release(&self, started: bool) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        if !started {
            self.start();
            // One message may be on its way already.
            self.abandoned.store(2, Ordering::Relaxed);
        }
    }

    /// A message came.
    fn count_message(&self) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        let abandoned = self.abandoned.load(Ordering::Relaxed);
        if abandoned > 0 {
            self.abandoned.store(abandoned - 1, Ordering::Relaxed);
        }
    }

    pub(crate) fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// Whether a prompt may be in its current step.
    pub(crate) fn is_prompting(&self) -> bool {
        self.unstarted.load(Ordering::Relaxed) > 0
            || self.abandoned.load(Ordering::Relaxed) > 0
            || self.queued.load(Ordering::Relaxed)
    }

    pub(crate) fn failure(&self) -> Option<EngineFailure> {
        let failure = self.failure.lock();
        failure
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone()
    }

    pub(crate) fn record(&self, stats: Option<&SchedulerStats>, weight_version: Option<String>) {
        let mut own = self
            .stats
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        own.steps += 1;
        self.count_message();
        if weight_version.is_some() && own.weight_version != weight_version {
            own.weight_version = weight_version;
        }
        let Some(stats) = stats else { return };
        self.queued
            .store(stats.num_waiting_reqs > 0, Ordering::Relaxed);
        own.running = stats.num_running_reqs;
        own.waiting = stats.num_waiting_reqs;
        own.kv_cache_usage = stats.kv_cache_usage;
        own.prefix_cache_queries += stats.prefix_cache_stats.queries;
        own.prefix_cache_hits += stats.prefix_cache_stats.hits;
        let load = stats
            .num_running_reqs
            .saturating_add(stats.num_waiting_reqs);
        self.count_others(load);
    }

    fn state(&self) -> EngineState {
        self.failure()
            .map_or(EngineState::Ready, EngineState::Failed)
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

    /// Admits a request; position of its engine. Release it when the request has ended.
    pub(crate) fn admit(&self, rank: Option<u32>) -> Result<usize, SubmitError> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(SubmitError::Shutdown);
        }
        if let Some(rank) = rank {
            let at = self.explicit(rank)?;
            self.engines[at].admit();
            return Ok(at);
        }
        let count = self.engines.len();
        // One engine needs no turn, and shards then share no counter.
        let start = if count > 1 {
            self.rotation.fetch_add(1, Ordering::Relaxed)
        } else {
            0
        };
        loop {
            let least = least_loaded(|at| self.engines[at].load(), count, start);
            let (at, load) = least.ok_or_else(|| self.no_engine(0))?;
            if self.engines[at].admit_if(load.own) {
                return Ok(at);
            }
        }
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

    /// Takes an engine in again: it registered anew, or answers after all.
    pub(crate) fn revive_engine(&self, at: usize) {
        let engine = &self.engines[at];
        engine.epoch.fetch_add(1, Ordering::SeqCst);
        engine.forget_others();
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
