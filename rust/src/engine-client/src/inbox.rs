// SPDX-License-Identifier: Apache-2.0

//! Hand-over from the transport to a shard: one lock and one wake-up per batch, whatever its size.
//!
//! When both live on one thread the wake-up is a push to the runtime's local queue.

use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use crate::error::StreamError;
use crate::protocol::EngineOutput;

/// Outputs that may wait for a shard that doesn't run; beyond this its streams are failed.
const INBOX_LIMIT: usize = 1 << 20;

/// Outputs that an empty batch keeps room for. What a backlog needed beyond that is given back: a
/// shard that was behind once would hold hundreds of megabytes for ever.
const KEPT: usize = 4096;

/// Gives back what an empty batch holds beyond the usual.
pub(crate) fn trim(batch: &mut Vec<Routed>) {
    if batch.capacity() > KEPT {
        *batch = Vec::new();
    }
}

/// An output or a failure on its way to a stream.
#[derive(Debug)]
pub(crate) struct Routed {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
    pub(crate) item: Result<EngineOutput, StreamError>,
}

/// Something that concerns many streams of a shard.
#[derive(Debug, Clone)]
pub(crate) enum ShardEvent {
    /// All streams of an engine that were submitted up to this epoch end.
    EngineFailed {
        engine: usize,
        epoch: u32,
        error: StreamError,
    },
    /// All streams end.
    FailAll(StreamError),
}

#[derive(Debug, Default)]
struct State {
    outputs: Vec<Routed>,
    events: Vec<ShardEvent>,
    waker: Option<Waker>,
    kicked: bool,
}

/// What waits for one shard.
#[derive(Debug, Default)]
pub(crate) struct Inbox(Mutex<State>);

impl Inbox {
    fn update(&self, change: impl FnOnce(&mut State)) {
        let mut state = self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        change(&mut state);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Appends a batch, leaving `batch` empty with the capacity of an earlier one.
    pub(crate) fn push(&self, batch: &mut Vec<Routed>) {
        self.update(|state| {
            if state.outputs.is_empty() {
                std::mem::swap(&mut state.outputs, batch);
            } else {
                state.outputs.append(batch);
                trim(batch);
            }
            if state.outputs.len() > INBOX_LIMIT {
                state.outputs = Vec::new();
                let error = StreamError::SlowReader { limit: INBOX_LIMIT };
                state.events.push(ShardEvent::FailAll(error));
            }
        });
    }

    pub(crate) fn event(&self, event: ShardEvent) {
        self.update(|state| state.events.push(event));
    }

    /// Makes the shard look, without giving it anything.
    pub(crate) fn kick(&self) {
        self.update(|state| state.kicked = true);
    }

    /// Takes what is there; pending when there is nothing and nobody kicked.
    pub(crate) fn poll_take(
        &self,
        cx: &mut Context<'_>,
        outputs: &mut Vec<Routed>,
        events: &mut Vec<ShardEvent>,
    ) -> Poll<()> {
        let mut state = self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        std::mem::swap(&mut state.outputs, outputs);
        std::mem::swap(&mut state.events, events);
        if std::mem::take(&mut state.kicked) || !outputs.is_empty() || !events.is_empty() {
            return Poll::Ready(());
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(count: u32) -> Vec<Routed> {
        let output = |slot| Routed {
            slot,
            generation: 0,
            item: Ok(EngineOutput::default()),
        };
        (0..count).map(output).collect()
    }

    fn take(inbox: &Inbox) -> Vec<Routed> {
        let mut outputs = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        let taken = inbox.poll_take(&mut cx, &mut outputs, &mut Vec::new());
        assert!(taken.is_ready());
        outputs
    }

    #[test]
    fn batches_arrive_in_order_and_what_a_backlog_needed_is_given_back() {
        let inbox = Inbox::default();
        let (mut first, mut second) = (batch(3), batch(100_000));
        inbox.push(&mut first);
        inbox.push(&mut second);
        assert!(first.is_empty() && second.is_empty());
        assert!(second.capacity() <= KEPT, "{}", second.capacity());
        let mut taken = take(&inbox);
        let slots = taken.drain(..).map(|routed| routed.slot);
        assert!(slots.eq((0..3).chain(0..100_000)));
        trim(&mut taken);
        assert!(taken.capacity() <= KEPT, "{}", taken.capacity());
    }

    #[test]
    fn a_shard_that_does_not_run_loses_its_streams_and_holds_nothing() {
        let inbox = Inbox::default();
        inbox.push(&mut batch(1));
        inbox.push(&mut batch(INBOX_LIMIT as u32));
        let (mut outputs, mut events) = (Vec::new(), Vec::new());
        let mut cx = Context::from_waker(Waker::noop());
        let taken = inbox.poll_take(&mut cx, &mut outputs, &mut events);
        assert!(taken.is_ready() && outputs.capacity() == 0);
        let error = StreamError::SlowReader { limit: INBOX_LIMIT };
        assert!(matches!(&events[..], [ShardEvent::FailAll(found)] if *found == error));
    }
}
