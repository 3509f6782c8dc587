// SPDX-License-Identifier: Apache-2.0

//! One engine as routing and liveness see it: counters that any thread may touch.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use vllm_metrics::StepTokens;

use crate::balance::{Load, pressure};
use crate::error::EngineFailure;
use crate::protocol::{SchedulerStats, engine_identity};

/// Whether an engine takes requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineState {
    /// It does.
    Ready,
    /// It does not, and this is why. It may come back by registering again.
    Failed(EngineFailure),
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
    /// Its steps by their tokens, as far as this frontend's requests go.
    pub step_tokens: StepTokens,
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
    /// What its full KV cache weighs, by the last statistics.
    pressure: AtomicUsize,
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
    /// Minor number of the release whose wire it speaks.
    wire: AtomicU32,
    failure: Mutex<Option<EngineFailure>>,
    stats: Mutex<EngineStats>,
}

impl Engine {
    pub(crate) fn new(index: u32) -> Self {
        Self {
            index,
            identity: Bytes::copy_from_slice(&engine_identity(index as u16)),
            alive: AtomicBool::new(true),
            epoch: AtomicU32::new(0),
            in_flight: AtomicUsize::new(0),
            others: AtomicUsize::new(0),
            pressure: AtomicUsize::new(0),
            stopped: AtomicUsize::new(0),
            unstarted: AtomicUsize::new(0),
            abandoned: AtomicU32::new(0),
            queued: AtomicBool::new(false),
            messages: AtomicU64::new(0),
            wire: AtomicU32::new(crate::WIRE_VERSION),
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

    pub(crate) fn load(&self) -> Option<Load> {
        self.is_alive().then(|| Load {
            own: self.in_flight.load(Ordering::Relaxed),
            others: self.others.load(Ordering::Relaxed),
            pressure: self.pressure.load(Ordering::Relaxed),
        })
    }

    /// Admits a request unless the engine's own load has changed since it was looked at: shards
    /// that route at the same moment must not all choose the same engine.
    pub(crate) fn admit_if(&self, own: usize) -> bool {
        let (count, relaxed) = (&self.in_flight, Ordering::Relaxed);
        let admitted = count.compare_exchange(own, own + 1, relaxed, relaxed);
        if admitted.is_ok() {
            self.unstarted.fetch_add(1, relaxed);
        }
        admitted.is_ok()
    }

    pub(crate) fn admit(&self) {
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
        self.pressure.store(0, Ordering::Relaxed);
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

    pub(crate) fn wire(&self) -> u32 {
        self.wire.load(Ordering::Relaxed)
    }

    pub(crate) fn set_wire(&self, minor: u32) {
        self.wire.store(minor, Ordering::Relaxed);
    }

    pub(crate) fn failure(&self) -> Option<EngineFailure> {
        self.reason().clone()
    }

    /// A message came that had so many tokens of prompts and answers.
    pub(crate) fn record(
        &self,
        tokens: u64,
        stats: Option<&SchedulerStats>,
        weight_version: Option<String>,
    ) {
        let mut own = self
            .stats
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        own.steps += 1;
        own.step_tokens.observe(tokens);
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
        let pressure = pressure(stats.num_waiting_reqs, stats.kv_cache_usage);
        self.pressure.store(pressure, Ordering::Relaxed);
    }

    /// Takes it out, with the reason. True when it was in.
    pub(crate) fn fail(&self, failure: EngineFailure) -> bool {
        *self.reason() = Some(failure);
        self.alive.swap(false, Ordering::SeqCst)
    }

    /// Takes it in again; requests submitted from now on belong to a new epoch.
    pub(crate) fn revive(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        self.forget_others();
        *self.reason() = None;
        self.alive.store(true, Ordering::SeqCst);
    }

    fn reason(&self) -> std::sync::MutexGuard<'_, Option<EngineFailure>> {
        self.failure
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(crate) fn stats(&self) -> EngineStats {
        let own = self
            .stats
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let in_flight = self.in_flight.load(Ordering::Relaxed) as u64;
        let others = self.others.load(Ordering::Relaxed) as u64;
        // An engine whose last request was stopped may send no statistics that say so.
        let most = in_flight.saturating_add(others);
        let running = own.running.min(most);
        EngineStats {
            in_flight,
            running,
            waiting: own.waiting.min(most - running),
            ..own.clone()
        }
    }

    pub(crate) fn state(&self) -> EngineState {
        self.failure()
            .map_or(EngineState::Ready, EngineState::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gauges(engine: &Engine) -> (u64, u64) {
        let stats = engine.stats();
        (stats.running, stats.waiting)
    }

    #[test]
    fn gauges_never_show_requests_that_are_known_to_be_over() {
        let engine = Engine::new(0);
        (0..3).for_each(|_| engine.admit());
        let stats = SchedulerStats {
            num_running_reqs: 4,
            num_waiting_reqs: 1,
            ..SchedulerStats::default()
        };
        engine.record(0, Some(&stats), None);
        assert_eq!(gauges(&engine), (4, 1), "two are another frontend's");
        (0..3).for_each(|_| engine.release(true));
        assert_eq!(gauges(&engine), (2, 0));
        engine.forget_others();
        assert_eq!(gauges(&engine), (0, 0));
    }
}
