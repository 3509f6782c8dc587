// SPDX-License-Identifier: Apache-2.0

//! Admission: how much may wait, and a seat for each choice that does.
//!
//! Owns: the counts of choices and prompt tokens that were let in, and the refusal (429) of what is too much. A
//! choice waits until its first output; what the engines can run at once does not count as waiting. Must not
//! know: engines, prompts, streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use vllm_openai::ApiError;

/// When to try again, in seconds. Steps take milliseconds and answers seconds: one second frees some seats of a
/// server that is not stuck, and asking more often only costs both sides.
pub const RETRY_AFTER: u32 = 1;

/// Bounds of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Choices beyond what the engines run at once.
    pub requests: u64,
    /// Prompt tokens of choices without output.
    pub tokens: u64,
}

impl QueueLimits {
    /// Nothing is refused.
    pub const NONE: Self = Self {
        requests: u64::MAX,
        tokens: u64::MAX,
    };
}

impl Default for QueueLimits {
    /// 16,384 choices: an hour's worth for a small engine, and under a gigabyte of requests. 64 Mi tokens: 256 MiB
    /// of token ids.
    fn default() -> Self {
        Self {
            requests: 16_384,
            tokens: 64 << 20,
        }
    }
}

/// What stood in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// Too many choices wait.
    Requests,
    /// Too many prompt tokens wait.
    Tokens,
}

/// The counts, shared by all shards; touched per request, never per token.
#[derive(Debug)]
pub struct Admission {
    limits: QueueLimits,
    /// Choices that the engines run at once.
    capacity: u64,
    choices: AtomicU64,
    waiting: AtomicU64,
    tokens: AtomicU64,
}

impl Admission {
    /// Nothing is in yet.
    pub fn new(limits: QueueLimits, capacity: u64) -> Arc<Self> {
        Arc::new(Self {
            limits,
            capacity,
            choices: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            tokens: AtomicU64::new(0),
        })
    }

    /// Choices that have not ended.
    pub fn choices(&self) -> u64 {
        self.choices.load(Relaxed)
    }

    /// Choices without output.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Relaxed)
    }

    /// Prompt tokens of choices without output.
    pub fn tokens(&self) -> u64 {
        self.tokens.load(Relaxed)
    }

    /// Lets so many choices in, or none of them. Call before any work is done for them.
    pub fn admit(self: &Arc<Self>, choices: usize) -> Result<Permit, Full> {
        let most = self.capacity.saturating_add(self.limits.requests);
        let wanted = choices as u64;
        let before = self.choices.fetch_add(wanted, Relaxed);
        if before.saturating_add(wanted) > most {
            self.choices.fetch_sub(wanted, Relaxed);
            return Err(Full::Requests);
        }
        self.waiting.fetch_add(wanted, Relaxed);
        let seat = || Seat {
            admission: self.clone(),
            tokens: Some(0),
        };
        let permit = Permit(std::iter::repeat_with(seat).take(choices).collect());
        // A prompt's length is not known yet: only a queue that is full already refuses it here.
        if self.tokens() >= self.limits.tokens {
            return Err(Full::Tokens);
        }
        Ok(permit)
    }

    /// A request with more choices than ever fit is the client's mistake.
    pub fn check_width(&self, choices: usize) -> Result<(), ApiError> {
        let most = self.capacity.saturating_add(self.limits.requests);
        if choices as u64 <= most {
            return Ok(());
        }
        Err(ApiError::field(
            "n",
            format!(
                "The request has {choices} choices; this server takes at most {most} at once, over all requests."
            ),
        ))
    }
}

/// Seats of one request whose prompts are not known yet.
#[derive(Debug)]
pub struct Permit(Vec<Seat>);

impl Permit {
    /// The seats, now that the length of each choice's prompt is known, in the order of the choices.
    pub fn seats(
        mut self,
        mut tokens: impl FnMut(usize) -> usize,
    ) -> Result<std::vec::IntoIter<Seat>, Full> {
        let lengths = (0..self.0.len()).map(|at| tokens(at) as u64);
        for (seat, length) in self.0.iter_mut().zip(lengths) {
            seat.prompt(length);
        }
        let Some(first) = self.0.first() else {
            return Ok(self.0.into_iter());
        };
        let own: u64 = self.0.iter().filter_map(|seat| seat.tokens).sum();
        let all = first.admission.tokens();
        // An empty queue takes a prompt of any length: it would never fit otherwise.
        if all > first.admission.limits.tokens && all > own {
            return Err(Full::Tokens);
        }
        Ok(self.0.into_iter())
    }
}

/// One choice's place; dropping it frees it.
#[derive(Debug)]
pub struct Seat {
    admission: Arc<Admission>,
    /// Prompt tokens that wait; none once the choice has output.
    tokens: Option<u64>,
}

impl Seat {
    fn prompt(&mut self, tokens: u64) {
        self.tokens = Some(tokens);
        self.admission.tokens.fetch_add(tokens, Relaxed);
    }

    /// The choice has output: it waits no more.
    #[inline]
    pub fn start(&mut self) {
        if let Some(tokens) = self.tokens.take() {
            self.admission.waiting.fetch_sub(1, Relaxed);
            self.admission.tokens.fetch_sub(tokens, Relaxed);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.start();
        self.admission.choices.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(requests: u64, tokens: u64) -> Arc<Admission> {
        Admission::new(QueueLimits { requests, tokens }, 2)
    }

    fn counts(admission: &Admission) -> (u64, u64, u64) {
        (admission.choices(), admission.waiting(), admission.tokens())
    }

    #[test]
    fn choices_are_counted_and_all_or_none_come_in() {
        let admission = admission(1, 100);
        let first = admission.admit(2).expect("room for three");
        assert_eq!(admission.admit(2).err(), Some(Full::Requests));
        assert_eq!(counts(&admission), (2, 2, 0));
        let second = admission.admit(1).expect("the last seat");
        drop(first);
        drop(second);
        assert_eq!(counts(&admission), (0, 0, 0));
    }

    #[test]
    fn tokens_wait_until_the_first_output() {
        let admission = admission(9, 100);
        let mut seats = admission
            .admit(1)
            .expect("empty")
            .seats(|_| 500)
            .expect("an empty queue takes anything");
        let mut seat = seats.next().expect("one seat");
        assert_eq!(admission.admit(1).err(), Some(Full::Tokens));
        assert_eq!(counts(&admission), (1, 1, 500));
        seat.start();
        assert_eq!(counts(&admission), (1, 0, 0));
        let waits = admission.admit(1).expect("empty again").seats(|_| 60);
        let too_long = admission.admit(1).expect("not full").seats(|_| 60);
        assert_eq!(too_long.err(), Some(Full::Tokens));
        drop((waits, seat));
        assert_eq!(counts(&admission), (0, 0, 0));
    }

    #[test]
    fn what_never_fits_is_told_at_once() {
        let admission = admission(1, 100);
        assert!(admission.check_width(3).is_ok());
        assert_eq!(
            admission.check_width(4).map_err(|error| error.status),
            Err(400)
        );
    }
}
