// SPDX-License-Identifier: Apache-2.0

//! Calls in flight, by id.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rmpv::Value;
use tokio::sync::oneshot;

use crate::protocol::UtilityOutput;

type Reply = Result<Value, String>;

/// Ids of heartbeats: from here on the rest is the engine's position, and no table is needed.
const BEATS: u64 = 1 << 62;

/// Id of the heartbeat of an engine.
pub(crate) fn beat_id(engine: usize) -> u64 {
    BEATS | engine as u64
}

/// The engine whose heartbeat a reply answers.
pub(crate) fn beat_of(call_id: i128) -> Option<usize> {
    let rest = u64::try_from(call_id).ok()?.checked_sub(BEATS)?;
    usize::try_from(rest).ok()
}

/// What an engine of the wire 0.`minor` calls a method.
pub(crate) fn name_in(minor: u32, method: &str) -> &str {
    match method {
        "pause_generation" if minor <= 32 => "pause_scheduler",
        same => same,
    }
}

#[derive(Debug, Default)]
pub(crate) struct UtilityCalls {
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, (usize, oneshot::Sender<Reply>)>>,
}

/// A call whose entry goes away with it, answered or not.
pub(crate) struct PendingCall<'a> {
    calls: &'a UtilityCalls,
    pub(crate) call_id: u64,
    pub(crate) engine: usize,
    pub(crate) reply: oneshot::Receiver<Reply>,
}

impl Drop for PendingCall<'_> {
    fn drop(&mut self) {
        self.calls.take(self.call_id);
    }
}

impl UtilityCalls {
    fn with<T>(
        &self,
        act: impl FnOnce(&mut HashMap<u64, (usize, oneshot::Sender<Reply>)>) -> T,
    ) -> T {
        act(&mut self
            .waiting
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// Registers a call to an engine (by position).
    pub(crate) fn begin(&self, engine: usize) -> PendingCall<'_> {
        let call_id = 1 + self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, reply) = oneshot::channel();
        self.with(|waiting| waiting.insert(call_id, (engine, sender)));
        PendingCall {
            calls: self,
            call_id,
            engine,
            reply,
        }
    }

    fn take(&self, call_id: u64) -> Option<oneshot::Sender<Reply>> {
        self.with(|waiting| waiting.remove(&call_id))
            .map(|(_, sender)| sender)
    }

    /// Delivers a reply; late and unsolicited ones are dropped.
    pub(crate) fn answer(&self, output: UtilityOutput) {
        let sender = u64::try_from(output.call_id)
            .ok()
            .and_then(|call_id| self.take(call_id));
        match sender {
            Some(sender) => drop(sender.send(output.result)),
            None => tracing::debug!(call_id = %output.call_id, "a utility reply nobody waits for"),
        }
    }

    /// Whether a call to an engine waits for its reply.
    pub(crate) fn waits_for(&self, engine: usize) -> bool {
        self.with(|waiting| waiting.values().any(|(at, _)| *at == engine))
    }

    /// Ends a call that could not be sent.
    pub(crate) fn drop_call(&self, call_id: u64) {
        drop(self.take(call_id));
    }

    /// Ends all calls to an engine that is gone.
    pub(crate) fn drop_engine(&self, engine: usize) {
        self.with(|waiting| waiting.retain(|_, (at, _)| *at != engine));
    }
}

#[cfg(test)]
mod tests {
    use super::name_in;

    #[test]
    fn an_older_engine_is_asked_by_the_names_it_knows() {
        assert_eq!(name_in(32, "pause_generation"), "pause_scheduler");
        assert_eq!(name_in(33, "pause_generation"), "pause_generation");
        assert_eq!(name_in(32, "is_sleeping"), "is_sleeping");
    }
}
