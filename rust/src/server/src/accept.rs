// SPDX-License-Identifier: Apache-2.0

//! Taking connections in: how many, and what becomes of those that are too many.
//!
//! Owns: the limit of open connections, the places kept for questions about health, and the descriptor kept for
//! closing what cannot be served. Must not know: shards, HTTP.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::connection::Stream;
use crate::listener::Listening;

/// The last places of the limit: each is held for one short question about health or metrics, so that these are
/// answered while all other places are taken.
const RESERVE: usize = 32;
/// Refusals are told once in this time, with their number.
const TELL_PERIOD: Duration = Duration::from_secs(10);
/// After accepting failed for another reason than the connection itself.
const PAUSE: Duration = Duration::from_millis(100);

/// What a connection finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It may stay.
    Plenty,
    /// It may ask one question that belongs to health or metrics.
    Scarce,
}

/// A connection that was let in.
#[derive(Debug)]
pub struct Arrival {
    /// The connection.
    pub stream: Stream,
    /// What it may do.
    pub room: Room,
}

/// The room for one more when so many are open; none: it has to go.
fn room(open: usize, limit: usize) -> Option<Room> {
    let reserve = RESERVE.min(limit / 4);
    if open < limit - reserve {
        Some(Room::Plenty)
    } else {
        (open < limit).then_some(Room::Scarce)
    }
}

/// The door: accepts, and counts what it turns away.
pub struct Door {
    listener: Listening,
    limit: usize,
    spare: Option<File>,
    refusals: Refusals,
}

impl Door {
    /// Lets at most `limit` connections be open at once.
    pub fn new(listener: Listening, limit: usize, refused: Arc<AtomicU64>) -> Self {
        Self {
            listener,
            limit,
            spare: spare(),
            refusals: Refusals::new(refused),
        }
    }

    /// The next connection that may stay; `open` says how many are open. Safe to drop while it waits.
    pub async fn next(&mut self, open: impl Fn() -> usize) -> Arrival {
        loop {
            match self.listener.accept().await {
                Ok(stream) => match room(open(), self.limit) {
                    Some(room) => return Arrival { stream, room },
                    None => {
                        let limit = self.limit;
                        self.refusals
                            .count(|| format!("{limit} are open, as many as may be"));
                    }
                },
                Err(error) => self.failed(error).await,
            }
        }
    }

    /// Tells of refusals that were not told yet; call now and then.
    pub fn tell(&mut self) {
        self.refusals.tell();
    }

    /// Without a descriptor a connection can be neither served nor closed: the spare one closes it.
    async fn failed(&mut self, error: io::Error) {
        if is_exhausted(&error) && self.spare.take().is_some() {
            let taken = tokio::time::timeout(PAUSE, self.listener.accept()).await;
            drop(taken);
            self.spare = spare();
            self.refusals.count(|| {
                format!("no descriptor is left ({error}); `ulimit -n` or the service's unit raises the limit")
            });
            return;
        }
        self.refusals.count(|| error.to_string());
        self.spare = self.spare.take().or_else(spare);
        tokio::time::sleep(PAUSE).await;
    }
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Of this process or of the whole system.
fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Counts refused connections and tells of them, but not of each.
struct Refusals {
    total: Arc<AtomicU64>,
    untold: u64,
    why: String,
    told: Option<Instant>,
}

impl Refusals {
    fn new(total: Arc<AtomicU64>) -> Self {
        Self {
            total,
            untold: 0,
            why: String::new(),
            told: None,
        }
    }

    fn count(&mut self, why: impl FnOnce() -> String) {
        self.total.fetch_add(1, Relaxed);
        self.untold += 1;
        if self.untold == 1 {
            self.why = why();
        }
        self.tell();
    }

    fn tell(&mut self) {
        let lately = self.told.is_some_and(|told| told.elapsed() < TELL_PERIOD);
        if self.untold == 0 || lately {
            return;
        }
        tracing::warn!("refused {} connections: {}", self.untold, self.why);
        self.untold = 0;
        self.told = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_places_are_kept() {
        assert_eq!(room(967, 1000), Some(Room::Plenty));
        assert_eq!(room(968, 1000), Some(Room::Scarce));
        assert_eq!(room(999, 1000), Some(Room::Scarce));
        assert_eq!(room(1000, 1000), None);
        assert_eq!(room(3, 4), Some(Room::Scarce));
        assert_eq!(room(0, 1), Some(Room::Plenty));
    }

    #[test]
    fn refusals_are_counted_and_told_together() {
        let total = Arc::new(AtomicU64::new(0));
        let mut refusals = Refusals::new(total.clone());
        for _ in 0..1000 {
            refusals.count(|| "full".to_owned());
        }
        assert_eq!((total.load(Relaxed), refusals.untold), (1000, 999));
    }
}
