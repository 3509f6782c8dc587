// SPDX-License-Identifier: Apache-2.0

//! What all shards and the transport share: engines, their load and health.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use vllm_zmtp::RouterSender;

use crate::affinity::{beginning, home, is_overloaded};
use crate::balance::{Load, least_loaded};
use crate::engine::{Engine, EngineState, EngineStats};
use crate::error::{EngineFailure, StreamError, SubmitError};
use crate::inbox::{Inbox, ShardEvent};
use crate::protocol::EngineCoreRequest;
use crate::request_id::Nonce;
use crate::utility::UtilityCalls;

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

/// Shared by the transport, the shards and callers on any thread.
pub(crate) struct Shared {
    pub(crate) engines: Vec<Engine>,
    pub(crate) start_index: u32,
    pub(crate) client_index: u32,
    pub(crate) router: RouterSender,
    pub(crate) nonce: Nonce,
    pub(crate) calls: UtilityCalls,
    pub(crate) stream_limit: usize,
    prefix_affinity: bool,
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
        prefix_affinity: bool,
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
            // One engine is everybody's home: nothing to compute.
            prefix_affinity: prefix_affinity && count > 1,
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
    pub(crate) fn admit(&self, request: &EngineCoreRequest) -> Result<usize, SubmitError> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(SubmitError::Shutdown);
        }
        if let Some(rank) = request.data_parallel_rank {
            let at = self.explicit(rank)?;
            self.engines[at].admit();
            return Ok(at);
        }
        let beginning = self.prefix_affinity.then(|| beginning(request)).flatten();
        self.admit_anywhere(beginning)
    }

    fn admit_anywhere(&self, beginning: Option<u64>) -> Result<usize, SubmitError> {
        let count = self.engines.len();
        // One engine needs no turn, and shards then share no counter.
        let start = if count > 1 {
            self.rotation.fetch_add(1, Ordering::Relaxed)
        } else {
            0
        };
        loop {
            let least = least_loaded(|at| self.engines[at].load(), count, start);
            let least = least.ok_or_else(|| self.no_engine(0))?;
            let home = beginning.and_then(|beginning| self.home(beginning, least.1));
            let (at, load) = home.unwrap_or(least);
            if self.engines[at].admit_if(load.own) {
                return Ok(at);
            }
        }
    }

    /// The engine that a beginning is at home in, unless it has too much to do.
    fn home(&self, beginning: u64, least: Load) -> Option<(usize, Load)> {
        let all = self.engines.iter().enumerate();
        let alive = all.filter(|(_, engine)| engine.is_alive());
        let at = home(beginning, alive.map(|(at, engine)| (at, engine.index)))?;
        let load = self.engines[at].load()?;
        (!is_overloaded(load, least)).then_some((at, load))
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
        if !engine.fail(failure.clone()) {
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
        self.engines[at].revive();
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
        self.engines.iter().map(Engine::stats).collect()
    }
}
