// SPDX-License-Identifier: Apache-2.0

//! Fewer, larger events: deltas wait until so many tokens came together.
//!
//! The first delta of a choice and its last one never wait.

use crate::choice::{Delta, Place};

/// Deltas of one request that wait.
pub struct Interval {
    tokens: u32,
    /// At most one per choice; empty when every delta is due at once.
    held: Vec<(Place, Delta)>,
}

impl Interval {
    /// One event per so many tokens; 0 and 1: an event per delta.
    pub fn new(tokens: u32) -> Self {
        Self {
            tokens,
            held: Vec::new(),
        }
    }

    /// Keeps a delta that is not due yet; one that is due takes over what was kept of its choice.
    pub fn holds(&mut self, place: Place, delta: &mut Delta) -> bool {
        if self.tokens <= 1 || delta.first {
            return false;
        }
        let at = self.held.iter().position(|(held, _)| *held == place);
        let waiting = at.map_or(0, |at| self.held[at].1.count);
        if delta.ended.is_none() && waiting + delta.count < self.tokens {
            match at {
                Some(at) => self.held[at].1.append(delta),
                None => self.held.push((place, std::mem::take(delta))),
            }
            return true;
        }
        if let Some(at) = at {
            let (_, mut whole) = self.held.swap_remove(at);
            whole.append(delta);
            *delta = whole;
        }
        false
    }

    /// Everything that waits, for a stream that ends early.
    pub fn take(&mut self) -> Vec<(Place, Delta)> {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::Ended;

    const PLACE: Place = Place {
        index: 0,
        prompt: 0,
    };

    fn delta(text: &str, count: u32) -> Delta {
        Delta {
            text: text.to_owned(),
            count,
            ..Delta::default()
        }
    }

    /// What is written of each delta; `None` where it waits.
    fn fed(interval: &mut Interval, mut delta: Delta) -> Option<(String, u32)> {
        (!interval.holds(PLACE, &mut delta)).then(|| (delta.text.clone(), delta.count))
    }

    #[test]
    fn tokens_come_together_and_neither_first_nor_last_waits() {
        let mut interval = Interval::new(3);
        let first = Delta {
            first: true,
            ..delta("a", 1)
        };
        assert_eq!(fed(&mut interval, first), Some(("a".into(), 1)));
        assert_eq!(fed(&mut interval, delta("b", 1)), None);
        assert_eq!(fed(&mut interval, delta("c", 1)), None);
        assert_eq!(fed(&mut interval, delta("d", 1)), Some(("bcd".into(), 3)));
        assert_eq!(fed(&mut interval, delta("e", 1)), None);
        let ended = Some(Ended {
            reason: "stop",
            stop: None,
        });
        let last = Delta {
            ended,
            ..delta("f", 1)
        };
        assert_eq!(fed(&mut interval, last), Some(("ef".into(), 2)));
        assert_eq!(fed(&mut interval, delta("g", 1)), None);
        assert_eq!(interval.take().len(), 1);
    }

    #[test]
    fn without_an_interval_nothing_waits() {
        let mut interval = Interval::new(1);
        assert_eq!(fed(&mut interval, delta("b", 1)), Some(("b".into(), 1)));
    }
}
