// SPDX-License-Identifier: Apache-2.0

//! The task that owns the sockets: who is connected, registered and alive.
//!
//! Nothing that arrives ends it. Requests don't pass through it: shards put them into the ROUTER's
//! queue themselves.

mod outputs;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use vllm_zmtp::{Message, Pull, Router, RouterEvent};

use crate::client::TransportConfig;
use crate::error::{ConnectError, EngineFailure};
use crate::inbox::{Inbox, Routed};
use crate::protocol::{ReadyResponse, engine_index, limits::MAX_ENGINES};
use crate::state::Shared;
use crate::watch::Watch;

/// Messages taken per wake-up before the shards get their batches.
const BATCH: usize = 64;

/// Sockets with all engines registered.
pub(crate) struct Connection {
    shared: Arc<Shared>,
    router: Router,
    pull: Pull,
    /// Messages of one wake-up, kept for its capacity.
    received: Vec<Message>,
    registered: BTreeMap<u32, ReadyResponse>,
    batches: Vec<Vec<Routed>>,
    inboxes: Vec<Arc<Inbox>>,
    watch: Watch,
}

/// Binds both sockets and waits for the engines.
pub(crate) async fn open(config: TransportConfig) -> Result<Connection, ConnectError> {
    let (start, count) = (config.engine_start_index, config.engine_count);
    let end = u64::from(start) + u64::from(count);
    if count == 0 || end > MAX_ENGINES as u64 {
        return Err(ConnectError::EngineRange { start, count });
    }
    let limits = config.limits;
    let router = Router::bind(config.input, limits.clone()).map_err(unusable("input"))?;
    let pull = Pull::bind(config.output, limits).map_err(unusable("output"))?;
    let shared = Shared::new(
        start,
        count,
        config.client_index,
        config.stream_limit,
        config.prefix_affinity,
        router.sender(),
    );
    let mut connection = Connection {
        shared: Arc::new(shared),
        router,
        pull,
        received: Vec::new(),
        registered: BTreeMap::new(),
        batches: Vec::new(),
        inboxes: Vec::new(),
        watch: Watch::new(config.patience, count as usize),
    };
    connection.wait_registered(config.ready_timeout).await?;
    Ok(connection)
}

fn unusable(plane: &'static str) -> impl Fn(std::io::Error) -> ConnectError {
    move |error| ConnectError::Listener {
        plane,
        reason: error.to_string(),
    }
}

impl Connection {
    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    pub(crate) fn frames(&self) -> Vec<(u32, ReadyResponse)> {
        self.registered
            .iter()
            .map(|(index, frame)| (*index, frame.clone()))
            .collect()
    }

    async fn wait_registered(&mut self, timeout: Duration) -> Result<(), ConnectError> {
        while self.registered.len() < self.shared.engines.len() {
            match tokio::time::timeout(timeout, self.next_registration()).await {
                Ok(registered) => registered?,
                Err(_) => {
                    return Err(ConnectError::Timeout {
                        missing: self.missing(),
                        timeout,
                    });
                }
            }
        }
        Ok(())
    }

    fn missing(&self) -> Vec<u32> {
        let indices = self.shared.engines.iter().map(|engine| engine.index);
        indices
            .filter(|index| !self.registered.contains_key(index))
            .collect()
    }

    /// Returns after a registration; an engine that leaves meanwhile is waited for again.
    async fn next_registration(&mut self) -> Result<(), ConnectError> {
        loop {
            match self.router.recv().await {
                RouterEvent::Connected(_) => {}
                RouterEvent::Disconnected(identity) => {
                    engine_index(&identity).map(|at| self.registered.remove(&u32::from(at)));
                }
                RouterEvent::Message(identity, message) => {
                    if self.register_first(&identity, &message)? {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn register_first(&mut self, identity: &[u8], message: &[Bytes]) -> Result<bool, ConnectError> {
        let Some((index, payload)) = self.registration_frame(identity, message) else {
            return Ok(false);
        };
        let frame = ReadyResponse::decode(payload)
            .map_err(|source| ConnectError::Registration { index, source })?;
        self.note_wire(index, &frame);
        self.registered.insert(index, frame);
        Ok(true)
    }

    fn note_wire(&self, index: u32, frame: &ReadyResponse) {
        if let Some(at) = self.shared.position(index) {
            self.shared.engines[at].set_wire(wire_of(index, frame));
        }
    }

    /// Engine index and payload of a frame on the input plane, when it is from one of ours.
    fn registration_frame<'a>(
        &self,
        identity: &[u8],
        message: &'a [Bytes],
    ) -> Option<(u32, &'a [u8])> {
        let index = engine_index(identity).map(u32::from);
        let known = index.filter(|index| self.shared.position(*index).is_some());
        if known.is_none() {
            tracing::warn!(
                ?index,
                "ignoring a message from an unexpected peer on the input plane"
            );
        }
        Some((known?, message.first()?))
    }

    /// Serves until told to stop.
    pub(crate) async fn run(mut self, stop: Arc<Notify>) {
        let mut turns = self.watch.turns();
        loop {
            tokio::select! {
                biased;
                () = stop.notified() => break,
                event = self.router.recv() => self.on_event(event),
                _ = turns.tick() => self.look(),
                () = self.pull.recv_batch(&mut self.received, BATCH) => self.on_outputs(),
            }
        }
        self.shared.close();
    }

    fn on_event(&mut self, event: RouterEvent) {
        match event {
            RouterEvent::Connected(identity) => {
                if let Some(at) = self.position_of(&identity) {
                    self.watch.connection(at, true);
                }
            }
            RouterEvent::Disconnected(identity) => self.on_disconnect(&identity),
            RouterEvent::Message(identity, message) => self.on_registration(&identity, &message),
        }
    }

    fn on_disconnect(&mut self, identity: &[u8]) {
        let Some(at) = self.position_of(identity) else {
            return;
        };
        self.watch.connection(at, false);
        // What it sent before it went away still counts.
        self.drain();
        let failure = EngineFailure::Disconnected {
            index: self.shared.engines[at].index,
        };
        if self.shared.fail_engine(at, failure.clone()) {
            tracing::error!("{failure}");
        }
    }

    fn position_of(&self, identity: &[u8]) -> Option<usize> {
        let index = engine_index(identity).map(u32::from);
        index.and_then(|index| self.shared.position(index))
    }

    /// What has arrived counts before anybody is called silent.
    fn look(&mut self) {
        self.drain();
        self.watch.look(&self.shared);
    }

    fn on_registration(&mut self, identity: &[u8], message: &[Bytes]) {
        let Some((index, payload)) = self.registration_frame(identity, message) else {
            return;
        };
        let Some(at) = self.shared.position(index) else {
            return;
        };
        match ReadyResponse::decode(payload) {
            Ok(frame) => self.on_return(at, frame),
            Err(error) => tracing::warn!(index, %error, "ignoring a registration"),
        }
    }

    /// Requests were accepted by the old limits; an engine with smaller ones can't serve them.
    fn on_return(&mut self, at: usize, frame: ReadyResponse) {
        let (index, now) = (self.shared.engines[at].index, frame.max_model_len);
        let before = self.registered.get(&index);
        let before = before.map_or(0, |frame| frame.max_model_len);
        if now < before {
            let failure = EngineFailure::Shrunk { index, before, now };
            tracing::error!("{failure}");
            self.shared.fail_engine(at, failure);
            return;
        }
        self.note_wire(index, &frame);
        self.registered.insert(index, frame);
        if !self.shared.engines[at].is_alive() {
            self.shared.revive_engine(at);
        }
        tracing::info!(index, "engine registered again");
    }

    /// A message of an engine that counted as lost brings it back. One whose connection broke, and
    /// that did not start anew, must answer a question that was asked since.
    fn on_sign(&mut self, at: usize, answered: bool) {
        let engine = &self.shared.engines[at];
        if engine.is_alive() {
            return;
        }
        let back = match engine.failure() {
            Some(EngineFailure::Unresponsive { .. }) => true,
            Some(EngineFailure::Disconnected { .. }) => answered && self.watch.is_connected(at),
            _ => false,
        };
        if back {
            self.shared.revive_engine(at);
            tracing::info!(index = engine.index, "engine answers again");
        }
    }

    fn drain(&mut self) {
        while self.pull.try_batch(&mut self.received, BATCH) {
            self.on_outputs();
        }
    }

    /// Decodes what has arrived, then hands every shard its batch.
    fn on_outputs(&mut self) {
        self.take_shards();
        let mut received = std::mem::take(&mut self.received);
        received
            .drain(..)
            .for_each(|message| self.on_message(message));
        self.received = received;
        let filled = self
            .inboxes
            .iter()
            .zip(&mut self.batches)
            .filter(|(_, b)| !b.is_empty());
        filled.for_each(|(inbox, batch)| inbox.push(batch));
    }
}

/// Minor number of the release whose wire an engine speaks: our own engines' is ours.
fn wire_of(index: u32, frame: &ReadyResponse) -> u32 {
    if frame.vllm_version.starts_with(env!("CARGO_PKG_VERSION")) {
        return crate::WIRE_VERSION;
    }
    let minor = frame.vllm_version.split('.').nth(1);
    let minor = minor.and_then(|minor| minor.parse().ok());
    if minor != Some(crate::WIRE_VERSION) {
        tracing::warn!(
            index,
            version = frame.vllm_version,
            "the engine's release may speak another wire than 0.{}",
            crate::WIRE_VERSION
        );
    }
    minor.unwrap_or(crate::WIRE_VERSION)
}
