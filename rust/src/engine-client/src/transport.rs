// SPDX-License-Identifier: Apache-2.0

//! The task that owns the sockets: registration, decoding of steps, liveness.
//!
//! Nothing that arrives ends it. Requests don't pass through it: shards put them into the ROUTER's
//! queue themselves.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use vllm_zmtp::{Message, Pull, Router, RouterEvent};

use crate::client::{TransportConfig, start_call};
use crate::error::{ConnectError, EngineFailure, StreamError};
use crate::inbox::{Inbox, Routed};
use crate::protocol::{
    DecodeError, Frames, OutputsHeader, ReadyResponse, decode_outputs, engine_index,
    limits::MAX_ENGINES,
};
use crate::request_id::RequestKey;
use crate::state::Shared;

/// Messages taken per wake-up before the shards get their batches.
const BATCH: usize = 64;
/// After a death message that several engines could have sent, each must answer a call in time.
const DEATH_PROBE: Duration = Duration::from_secs(5);

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
        warn_version(index, &frame);
        self.registered.insert(index, frame);
        Ok(true)
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
        loop {
            tokio::select! {
                biased;
                () = stop.notified() => break,
                event = self.router.recv() => self.on_event(event),
                () = self.pull.recv_batch(&mut self.received, BATCH) => self.on_outputs(),
            }
        }
        self.shared.close();
    }

    fn on_event(&mut self, event: RouterEvent) {
        match event {
            RouterEvent::Connected(_) => {}
            RouterEvent::Disconnected(identity) => self.on_disconnect(&identity),
            RouterEvent::Message(identity, message) => self.on_registration(&identity, &message),
        }
    }

    fn on_disconnect(&mut self, identity: &[u8]) {
        let index = engine_index(identity).map(u32::from);
        let Some(at) = index.and_then(|index| self.shared.position(index)) else {
            return;
        };
        // What it sent before it went away still counts.
        self.drain();
        let failure = EngineFailure::Disconnected {
            index: self.shared.engines[at].index,
        };
        if self.shared.fail_engine(at, failure.clone()) {
            tracing::error!("{failure}");
        }
    }

    fn on_registration(&mut self, identity: &[u8], message: &[Bytes]) {
        let Some((index, payload)) = self.registration_frame(identity, message) else {
            return;
        };
        let Some(at) = self.shared.position(index) else {
            return;
        };
        match ReadyResponse::decode(payload) {
            Ok(frame) if Some(&frame.max_model_len) < self.registered_len(index).as_ref() => {
                tracing::error!(
                    index,
                    max_model_len = frame.max_model_len,
                    "not taking the engine back: its max_model_len became smaller"
                );
            }
            Ok(frame) => {
                warn_version(index, &frame);
                self.registered.insert(index, frame);
                self.shared.revive_engine(at);
                tracing::info!(index, "engine registered again");
            }
            Err(error) => tracing::warn!(index, %error, "ignoring a registration"),
        }
    }

    fn registered_len(&self, index: u32) -> Option<u64> {
        self.registered.get(&index).map(|frame| frame.max_model_len)
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

    /// Shards are added at any time, never removed.
    fn take_shards(&mut self) {
        let (inboxes, batches) = (&mut self.inboxes, &mut self.batches);
        self.shared.each_shard(|at, inbox| {
            if at >= inboxes.len() {
                inboxes.push(inbox.clone());
                batches.push(Vec::new());
            }
        });
    }

    fn on_message(&mut self, message: Message) {
        let frames = Frames::new(message);
        if frames.is_death_sentinel() {
            return self.on_death();
        }
        let marks: smallvec::SmallVec<[usize; 8]> =
            self.batches.iter().map(|batch| batch.len()).collect();
        let (shared, batches) = (&self.shared, &mut self.batches);
        let decoded = decode_outputs(&frames, |id, output| {
            let item = output.map_err(undecodable);
            match shared.nonce.key(id) {
                Some(key) => route(batches, key, item),
                None => tracing::debug!("an output for a request of another frontend"),
            }
        });
        match decoded {
            Ok(header) => self.on_header(header, &marks),
            Err(error) => self.on_broken(&frames, error, &marks),
        }
    }

    fn on_header(&mut self, header: OutputsHeader, marks: &[usize]) {
        for (batch, mark) in self.batches.iter_mut().zip(marks) {
            for output in batch[*mark..]
                .iter_mut()
                .filter_map(|routed| routed.item.as_mut().ok())
            {
                output.timestamp = header.timestamp;
            }
        }
        if let Some(at) = self.shared.position(header.engine_index) {
            let stats = header.scheduler_stats.as_deref();
            self.shared.engines[at].record(stats, header.weight_version);
        }
        if let Some(reply) = header.utility_output {
            self.shared.calls.answer(*reply);
        }
        if header.wave_complete.is_some() || header.start_wave.is_some() {
            tracing::debug!("ignoring a wave message: the coordinator is not supported yet");
        }
    }

    /// A message whose structure is broken fails the requests it names and that it did not serve.
    fn on_broken(&mut self, frames: &Frames, error: DecodeError, marks: &[usize]) {
        tracing::error!(%error, bytes = frames.payload().len(), "an engine message is broken");
        let served: HashSet<(u8, u32)> = self
            .batches
            .iter()
            .zip(marks)
            .enumerate()
            .flat_map(|(at, (batch, mark))| {
                batch[*mark..]
                    .iter()
                    .map(move |routed| (at as u8, routed.slot))
            })
            .collect();
        let named: HashSet<RequestKey> = self.shared.nonce.find_keys(frames.payload()).collect();
        for key in named
            .into_iter()
            .filter(|key| !served.contains(&(key.shard, key.slot)))
        {
            route(&mut self.batches, key, Err(undecodable(error.clone())));
        }
    }

    /// The farewell carries no name. With several engines each is asked for a sign of life.
    fn on_death(&mut self) {
        if self.shared.engines.len() > 1 {
            tokio::spawn(probe(self.shared.clone()));
            return;
        }
        let failure = EngineFailure::Died {
            index: self.shared.engines[0].index,
        };
        tracing::error!("{failure}");
        self.shared.fail_engine(0, failure);
    }
}

fn undecodable(error: DecodeError) -> StreamError {
    tracing::warn!(%error, "an engine output can't be decoded");
    StreamError::Undecodable(error)
}

fn route(
    batches: &mut [Vec<Routed>],
    key: RequestKey,
    item: Result<crate::EngineOutput, StreamError>,
) {
    if let Some(batch) = batches.get_mut(usize::from(key.shard)) {
        batch.push(Routed {
            slot: key.slot,
            generation: key.generation,
            item,
        });
    }
}

async fn probe(shared: Arc<Shared>) {
    let alive = (0..shared.engines.len()).filter(|at| shared.engines[*at].is_alive());
    let calls = alive.map(|at| {
        let shared = shared.clone();
        async move {
            let mut call = start_call(&shared, at, "is_sleeping", &[]);
            let answered = tokio::time::timeout(DEATH_PROBE, &mut call.reply).await;
            if !matches!(answered, Ok(Ok(_))) {
                let failure = EngineFailure::Died {
                    index: shared.engines[at].index,
                };
                tracing::error!("{failure}");
                shared.fail_engine(at, failure);
            }
        }
    });
    futures_util::future::join_all(calls).await;
}

fn warn_version(index: u32, frame: &ReadyResponse) {
    let minor = frame
        .vllm_version
        .split('.')
        .nth(1)
        .and_then(|minor| minor.parse().ok());
    let ours = frame.vllm_version.starts_with(env!("CARGO_PKG_VERSION"));
    if !ours && minor != Some(crate::WIRE_VERSION) {
        tracing::warn!(
            index,
            version = frame.vllm_version,
            "the engine's release may speak another wire than 0.{}",
            crate::WIRE_VERSION
        );
    }
}
