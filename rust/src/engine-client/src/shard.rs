// SPDX-License-Identifier: Apache-2.0

//! A shard's end: submitting requests and reading their streams, on one thread without locks.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use slab::Slab;

use crate::client::EngineClient;
use crate::error::{StreamError, SubmitError};
use crate::inbox::{Inbox, Routed, ShardEvent, trim};
use crate::protocol::{EngineCoreRequest, EngineOutput, RequestType};
use crate::request_id::{MAX_SLOTS, RequestKey};
use crate::state::Shared;

/// Bytes that may wait in one stream, however many others its reader has.
const LEAST_SHARE: usize = 64 << 10;

/// Submits requests from one shard. Cheap to clone; stays on its thread.
#[derive(Clone)]
pub struct ShardClient(Rc<Shard>);

struct Shard {
    client: EngineClient,
    number: u8,
    inbox: Arc<Inbox>,
    table: RefCell<Table>,
    /// Requests to stop, by engine position; one ABORT per engine and turn of the loop.
    aborts: RefCell<Vec<(usize, String)>>,
}

#[derive(Default)]
struct Table {
    entries: Slab<Entry>,
    generation: u32,
}

struct Entry {
    generation: u32,
    engine: usize,
    epoch: u32,
    pending: Vec<EngineOutput>,
    /// Bytes of `pending`, and how many there may be.
    waiting: usize,
    limit: usize,
    error: Option<StreamError>,
    /// An output has come: the prompt is done.
    started: bool,
    /// The engine has ended it: nothing to abort.
    finished: bool,
    waker: Option<Waker>,
    /// Outputs that must wait before the reader is woken, after the first and before the last.
    patience: usize,
}

impl Entry {
    /// Wakes the reader, unless it wants more at once and nothing ended.
    fn wake_when_due(&mut self, first: bool) {
        let many = self.pending.len() >= self.patience || self.waiting > self.limit / 2;
        if first || many || self.finished || self.error.is_some() {
            self.wake();
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl ShardClient {
    /// Registers a shard and starts its pump on the current `LocalSet`.
    pub(crate) fn start(client: EngineClient) -> Self {
        let inbox = Arc::new(Inbox::default());
        let number = client.shared().add_shard(inbox.clone());
        let shard = Rc::new(Shard {
            client,
            number: number.expect("at most 256 shards: one per CPU core"),
            inbox: inbox.clone(),
            table: RefCell::default(),
            aborts: RefCell::default(),
        });
        tokio::task::spawn_local(pump(Rc::downgrade(&shard), inbox));
        Self(shard)
    }

    /// The client this shard belongs to.
    pub fn client(&self) -> &EngineClient {
        &self.0.client
    }

    /// Sends a request to the engine it names, else to the one that has likely computed its
    /// beginning, else to the least loaded one, and returns its stream.
    ///
    /// Fills `request_id` and `client_index`. Parameters that an engine would refuse are refused
    /// here, because some engines don't survive them.
    pub fn submit(&self, request: EngineCoreRequest) -> Result<OutputStream, SubmitError> {
        self.submit_one_of(1, request)
    }

    /// As `submit`, one of several streams with the same reader, which share what may wait for it.
    pub fn submit_one_of(
        &self,
        streams: usize,
        mut request: EngineCoreRequest,
    ) -> Result<OutputStream, SubmitError> {
        if let Some(params) = &request.sampling_params {
            params.validate()?;
        }
        let shared = self.0.client.shared();
        let engine = shared.admit(&request)?;
        let limit = share(shared.stream_limit, streams);
        let stream = self.0.open(engine, limit).inspect_err(|_| {
            shared.engines[engine].release(false);
        })?;
        request.request_id = stream.request_id();
        request.client_index = shared.client_index;
        if self.0.send(engine, RequestType::Add, request.encode()) {
            return Ok(stream);
        }
        self.0.table.borrow_mut().entries[stream.slot].finished = true;
        shared.engines[engine].release(false);
        Err(SubmitError::Backlog {
            index: shared.engines[engine].index,
        })
    }

    /// Streams that are open on this shard.
    pub fn open_streams(&self) -> usize {
        self.0.table.borrow().entries.len()
    }
}

impl Shard {
    fn shared(&self) -> &Shared {
        self.client.shared()
    }

    fn open(self: &Rc<Self>, engine: usize, limit: usize) -> Result<OutputStream, SubmitError> {
        let mut table = self.table.borrow_mut();
        if table.entries.len() >= MAX_SLOTS {
            return Err(SubmitError::TooManyRequests { limit: MAX_SLOTS });
        }
        table.generation = table.generation.wrapping_add(1);
        let generation = table.generation;
        let slot = table.entries.insert(Entry {
            generation,
            engine,
            epoch: self.shared().engines[engine].epoch(),
            pending: Vec::new(),
            waiting: 0,
            limit,
            error: None,
            started: false,
            finished: false,
            waker: None,
            patience: 1,
        });
        Ok(OutputStream {
            shard: self.clone(),
            slot,
            generation,
        })
    }

    /// Queues a message to an engine; false when its queue is full or it is gone.
    fn send(&self, engine: usize, kind: RequestType, payload: Vec<Bytes>) -> bool {
        let shared = self.shared();
        let mut message = payload;
        message.insert(0, kind.frame());
        let sent = shared
            .router
            .send(&shared.engines[engine].identity, message);
        sent.is_ok()
    }

    fn deliver(&self, outputs: &mut Vec<Routed>) {
        let mut table = self.table.borrow_mut();
        for routed in outputs.drain(..) {
            let Some(entry) = table.entries.get_mut(routed.slot as usize) else {
                continue;
            };
            if entry.generation == routed.generation && !entry.finished && entry.error.is_none() {
                self.deliver_one(entry, routed);
            }
        }
    }

    fn deliver_one(&self, entry: &mut Entry, routed: Routed) {
        let first = !entry.started;
        match routed.item {
            // One output may be larger than the limit: it counts once others come after it.
            Ok(_) if entry.waiting > entry.limit => {
                let limit = entry.limit;
                self.fail(entry, routed.slot, StreamError::SlowReader { limit });
            }
            Ok(output) => {
                if !std::mem::replace(&mut entry.started, true) {
                    self.shared().engines[entry.engine].start();
                }
                if output.finish.is_some() {
                    self.finish(entry);
                }
                entry.waiting += output.bytes();
                entry.pending.push(output);
            }
            Err(error) => self.fail(entry, routed.slot, error),
        }
        entry.wake_when_due(first);
    }

    fn finish(&self, entry: &mut Entry) {
        entry.finished = true;
        self.shared().engines[entry.engine].release(entry.started);
    }

    /// Ends a stream from this side; the engine is told to stop.
    fn fail(&self, entry: &mut Entry, slot: u32, error: StreamError) {
        entry.error = Some(error);
        if !entry.finished {
            self.finish(entry);
            let key = self.key(slot, entry.generation);
            self.abort(entry.engine, self.shared().nonce.id(key));
        }
    }

    fn key(&self, slot: u32, generation: u32) -> RequestKey {
        RequestKey {
            shard: self.number,
            slot,
            generation,
        }
    }

    fn apply(&self, event: ShardEvent) {
        let mut table = self.table.borrow_mut();
        for (slot, entry) in table
            .entries
            .iter_mut()
            .filter(|(_, entry)| !entry.finished)
        {
            let error = match &event {
                ShardEvent::EngineFailed {
                    engine,
                    epoch,
                    error,
                } if *engine == entry.engine && entry.epoch <= *epoch => error,
                ShardEvent::FailAll(error) => error,
                ShardEvent::EngineFailed { .. } => continue,
            };
            if error.leaves_work() {
                self.fail(entry, slot as u32, error.clone());
            } else {
                entry.error = Some(error.clone());
                self.finish(entry);
            }
            entry.wake();
        }
    }

    fn abort(&self, engine: usize, request_id: String) {
        self.shared().engines[engine].stop();
        let mut aborts = self.aborts.borrow_mut();
        aborts.push((engine, request_id));
        if aborts.len() == 1 {
            self.inbox.kick();
        }
    }

    fn flush_aborts(&self) {
        let mut aborts = self.aborts.take();
        aborts.sort_by_key(|(engine, _)| *engine);
        for batch in aborts.chunk_by(|a, b| a.0 == b.0) {
            let ids = batch.iter().map(|(_, id)| id.as_str());
            let payload = crate::protocol::abort_payload(ids);
            if !self.send(batch[0].0, RequestType::Abort, vec![payload.into()]) {
                tracing::debug!(
                    requests = batch.len(),
                    "aborts not sent: the engine is gone"
                );
            }
        }
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.flush_aborts();
        // The pump holds no strong reference: wake it to let it end.
        self.inbox.kick();
    }
}

/// Moves batches from the inbox to the streams, for as long as the shard lives.
async fn pump(shard: Weak<Shard>, inbox: Arc<Inbox>) {
    let (mut outputs, mut events) = (Vec::new(), Vec::new());
    loop {
        poll_fn(|cx| inbox.poll_take(cx, &mut outputs, &mut events)).await;
        let Some(shard) = shard.upgrade() else { return };
        shard.deliver(&mut outputs);
        trim(&mut outputs);
        events.drain(..).for_each(|event| shard.apply(event));
        shard.flush_aborts();
    }
}

/// The outputs of one request. Dropping it stops the request in the engine, unless it has ended.
pub struct OutputStream {
    shard: Rc<Shard>,
    slot: usize,
    generation: u32,
}

impl OutputStream {
    /// The internal id, for logs.
    pub fn request_id(&self) -> String {
        let key = self.shard.key(self.slot as u32, self.generation);
        self.shard.shared().nonce.id(key)
    }

    /// Index of the engine that works on it.
    pub fn engine_index(&self) -> u32 {
        let engine = self.shard.table.borrow().entries[self.slot].engine;
        self.shard.shared().engines[engine].index
    }

    /// Wakes the reader once so many outputs wait, instead of at each: for one that shows nothing before the end. The
    /// first output, the last and an error wake it at once.
    pub fn gather(&self, outputs: usize) {
        self.shard.table.borrow_mut().entries[self.slot].patience = outputs;
    }

    /// Appends all outputs that have arrived to `out`.
    ///
    /// Pending when there are none. After the output whose `finish` is set there is nothing more:
    /// further polls are ready and append nothing. An error comes after the outputs before it.
    pub fn poll_outputs(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<EngineOutput>,
    ) -> Poll<Result<(), StreamError>> {
        let mut table = self.shard.table.borrow_mut();
        let entry = &mut table.entries[self.slot];
        if !entry.pending.is_empty() {
            take_pending(&mut entry.pending, out);
            entry.waiting = 0;
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = &entry.error {
            return Poll::Ready(Err(error.clone()));
        }
        if entry.finished {
            return Poll::Ready(Ok(()));
        }
        match &mut entry.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Waits for outputs; empty after the end.
    pub async fn next_batch(&mut self) -> Result<Vec<EngineOutput>, StreamError> {
        let mut out = Vec::new();
        poll_fn(|cx| self.poll_outputs(cx, &mut out)).await?;
        Ok(out)
    }
}

/// What one of several streams may hold; enough for the steps that a busy thread misses.
fn share(limit: usize, streams: usize) -> usize {
    (limit / streams.max(1)).max(limit.min(LEAST_SHARE))
}

/// Moves outputs over; an empty target swaps vectors, which copies nothing and keeps capacity.
fn take_pending(pending: &mut Vec<EngineOutput>, out: &mut Vec<EngineOutput>) {
    if out.is_empty() {
        std::mem::swap(pending, out);
    } else {
        out.append(pending);
    }
}

impl Drop for OutputStream {
    fn drop(&mut self) {
        let entry = self.shard.table.borrow_mut().entries.remove(self.slot);
        if !entry.finished {
            self.shard.shared().engines[entry.engine].release(entry.started);
            let key = self.shard.key(self.slot as u32, self.generation);
            self.shard
                .abort(entry.engine, self.shard.shared().nonce.id(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_one_reader_share_what_may_wait() {
        assert_eq!(share(8 << 20, 1), 8 << 20);
        assert_eq!(share(8 << 20, 128), 64 << 10);
        assert_eq!(share(8 << 20, 1024), LEAST_SHARE);
        assert_eq!(share(1000, 3), 1000);
    }

    #[test]
    fn what_waits_is_counted_with_its_log_probabilities() {
        let plain = EngineOutput::default();
        let entry = crate::protocol::TokenLogprob {
            token_id: 1,
            logprob: -1.0,
        };
        let logprobs = crate::protocol::Logprobs {
            width: 21,
            entries: vec![entry; 21],
            ranks: [1].into_iter().collect(),
        };
        let with = EngineOutput {
            logprobs: Some(Box::new(logprobs)),
            ..EngineOutput::default()
        };
        assert_eq!(with.bytes(), plain.bytes() + 21 * 8);
    }
}
