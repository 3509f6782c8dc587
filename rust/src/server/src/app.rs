// SPDX-License-Identifier: Apache-2.0

//! State: what all shards share, and what one shard keeps to itself.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use vllm_engine_client::{EngineClient, ShardClient};
use vllm_metrics::{Metrics, ShardMetrics};

use crate::admission::Admission;
use crate::choice::Scratch;
use crate::config::ServerConfig;
use crate::connection::Connections;
use crate::drain::Phase;
use crate::model::Model;
use crate::sends::Sends;

/// Shared by all shards.
pub struct Shared {
    /// Settings.
    pub config: ServerConfig,
    /// The model.
    pub model: Arc<Model>,
    /// The engines.
    pub engine: EngineClient,
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// Running, draining or over.
    pub phase: Phase,
    /// Told about each connection that closes during the drain.
    pub closed: tokio::sync::Notify,
    /// Requests that are being answered by engines.
    pub requests: Gauge,
    /// What was let in, and what may wait.
    pub admission: Arc<Admission>,
    /// Open connections.
    pub connections: AtomicUsize,
    /// Index of the first engine.
    pub first_engine: u32,
    /// Unix seconds of the start.
    pub started: u64,
    /// Threads for long prompts.
    pub workers: tokio::runtime::Handle,
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// One more.
    pub fn enter(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// One less.
    pub fn leave(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    /// How many.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One shard's state.
pub struct App {
    /// Shared by all shards.
    pub shared: Arc<Shared>,
    /// The model, without a step through `shared`.
    pub model: Arc<Model>,
    /// Submits requests and reads their streams.
    pub engine: ShardClient,
    /// This shard's metrics.
    pub cells: Arc<ShardMetrics>,
    /// Open connections.
    pub connections: Connections,
    /// Memory for advancing choices.
    pub scratch: RefCell<Scratch>,
    /// What streams send together.
    pub sends: Rc<RefCell<Sends>>,
}

impl App {
    /// State of a new shard; call on its thread, inside its `LocalSet`.
    pub fn new(shared: Arc<Shared>) -> Rc<Self> {
        Rc::new(Self {
            model: shared.model.clone(),
            engine: shared.engine.shard(),
            cells: shared.metrics.open_shard(),
            connections: Connections::default(),
            scratch: RefCell::default(),
            sends: Sends::start(),
            shared,
        })
    }
}

/// Seconds since 1970.
pub fn unix_now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |elapsed| elapsed.as_secs_f64())
}
