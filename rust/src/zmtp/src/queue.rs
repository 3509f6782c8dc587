// SPDX-License-Identifier: Apache-2.0

//! A bounded queue between threads with one reader, who takes all there is at once.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use tokio::sync::Notify;

use crate::error::SendError;
use crate::limits::Limits;

/// Items that an empty queue keeps room for.
const KEPT: usize = 4096;

#[derive(Debug)]
struct State<T> {
    items: VecDeque<(usize, T)>,
    bytes: usize,
    closed: bool,
}

#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    filled: Notify,
    emptied: Notify,
    most: usize,
    most_bytes: usize,
}

impl<T> Queue<T> {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            state: Mutex::new(State {
                items: VecDeque::new(),
                bytes: 0,
                closed: false,
            }),
            filled: Notify::new(),
            emptied: Notify::new(),
            most: limits.queue,
            most_bytes: limits.queue_bytes,
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn enter(&self, mut state: MutexGuard<'_, State<T>>, item: T, bytes: usize) {
        state.items.push_back((bytes, item));
        state.bytes += bytes;
        drop(state);
        self.filled.notify_one();
    }

    /// Gives the item back with the reason when it can't enter now.
    pub(crate) fn try_push(&self, item: T, bytes: usize) -> Result<(), (SendError, T)> {
        let state = self.state();
        if state.closed {
            return Err((SendError::Gone, item));
        }
        if state.items.len() >= self.most || state.bytes >= self.most_bytes {
            return Err((SendError::Full, item));
        }
        self.enter(state, item, bytes);
        Ok(())
    }

    /// Enters whatever the size of the queue: for the few items that must not get lost.
    pub(crate) fn push_always(&self, item: T) {
        let state = self.state();
        if !state.closed {
            self.enter(state, item, 0);
        }
    }

    /// Waits for room. False: the queue is closed.
    pub(crate) async fn push(&self, mut item: T, bytes: usize) -> bool {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            // Before the look: room that is made in between must not be missed.
            emptied.as_mut().enable();
            item = match self.try_push(item, bytes) {
                Ok(()) => return true,
                Err((SendError::Gone, _)) => return false,
                Err((SendError::Full, item)) => item,
            };
            emptied.await;
        }
    }

    /// Appends up to `most` items to `out`; false when there was none.
    pub(crate) fn try_take(&self, out: &mut Vec<T>, most: usize) -> bool {
        let mut state = self.state();
        let count = most.min(state.items.len());
        if count == 0 {
            return false;
        }
        let mut bytes = 0;
        out.extend(state.items.drain(..count).map(|(size, item)| {
            bytes += size;
            item
        }));
        state.bytes -= bytes;
        if state.items.is_empty() && state.items.capacity() > KEPT {
            state.items.shrink_to(KEPT);
        }
        drop(state);
        self.emptied.notify_waiters();
        true
    }

    /// Waits for items. False: closed, and everything that was in it has been taken.
    pub(crate) async fn take(&self, out: &mut Vec<T>, most: usize) -> bool {
        loop {
            if self.try_take(out, most) {
                return true;
            }
            if self.state().closed {
                return false;
            }
            self.filled.notified().await;
        }
    }

    /// Takes nothing more; what is inside can still be taken.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.filled.notify_one();
        self.emptied.notify_waiters();
    }
}

/// Bytes of a message, for a queue's account; an empty frame is not free.
pub(crate) fn weight(message: &[bytes::Bytes]) -> usize {
    message.iter().map(|frame| frame.len() + 32).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_backlog_needed_is_given_back() {
        let queue = Queue::new(&Limits::default());
        for item in 0..20_000 {
            queue.try_push(item, 1).expect("below the limit");
        }
        let mut taken = Vec::new();
        assert!(queue.try_take(&mut taken, 19_999));
        assert!(queue.state().items.capacity() > KEPT);
        assert!(queue.try_take(&mut taken, 19_999));
        assert!(taken.into_iter().eq(0..20_000));
        assert!(queue.state().items.capacity() <= 2 * KEPT);
    }
}
