// SPDX-License-Identifier: Apache-2.0

//! What is remembered of long segments between special tokens: system prompts and earlier turns come again and again.
//!
//! A segment is kept when it comes for the second time, so text that never repeats costs a hash and no copy.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Shorter segments are encoded as fast as they are found.
const SHORTEST: usize = 128;

/// Bytes of text and ids that are kept: two generations of half as many.
const LIMIT: usize = 16 << 20;

/// Hashes of segments that came once; a later one takes the place of an earlier one. A power of two.
const SEEN: usize = 4096;

/// Locks are held for a look-up; threads that look up different segments seldom meet.
const STRIPES: usize = 16;

/// Segments and their ids, shared by all threads.
pub(super) struct Segments {
    hashing: ahash::RandomState,
    seen: Box<[AtomicU64]>,
    stripes: [Mutex<Stripe>; STRIPES],
}

type Known = HashMap<Box<str>, Arc<[u32]>, ahash::RandomState>;

/// When the recent half is full, it becomes the older one, and what was in that and not asked for since is gone.
#[derive(Default)]
struct Stripe {
    recent: Known,
    older: Known,
    recent_bytes: usize,
}

impl Segments {
    pub(super) fn new() -> Self {
        Self {
            hashing: ahash::RandomState::new(),
            seen: (0..SEEN).map(|_| AtomicU64::new(0)).collect(),
            stripes: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// Appends the ids of a segment; `encode` finds them where they are not known.
    pub(super) fn append(
        &self,
        text: &str,
        out: &mut Vec<u32>,
        encode: impl FnOnce(&mut Vec<u32>),
    ) {
        if text.len() < SHORTEST {
            return encode(out);
        }
        let hash = self.hashing.hash_one(text) | 1;
        if self.seen[hash as usize >> 1 & (SEEN - 1)].swap(hash, Ordering::Relaxed) != hash {
            return encode(out);
        }
        let stripe = &self.stripes[(hash >> 32) as usize % STRIPES];
        let known = lock(stripe).get(text);
        if let Some(ids) = known {
            return out.extend_from_slice(&ids);
        }
        let start = out.len();
        encode(out);
        lock(stripe).put(text, &out[start..]);
    }
}

/// A panic elsewhere leaves a stripe sound: entries are whole or absent.
fn lock(stripe: &Mutex<Stripe>) -> std::sync::MutexGuard<'_, Stripe> {
    stripe.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stripe {
    fn get(&mut self, text: &str) -> Option<Arc<[u32]>> {
        if let Some(ids) = self.recent.get(text) {
            return Some(ids.clone());
        }
        let (text, ids) = self.older.remove_entry(text)?;
        self.keep(text, ids.clone());
        Some(ids)
    }

    fn put(&mut self, text: &str, ids: &[u32]) {
        self.keep(text.into(), ids.into());
    }

    fn keep(&mut self, text: Box<str>, ids: Arc<[u32]>) {
        let bytes = text.len() + size_of_val(&*ids);
        let limit = LIMIT / 2 / STRIPES;
        if bytes > limit {
            return;
        }
        if self.recent_bytes + bytes > limit {
            self.older = std::mem::take(&mut self.recent);
            self.recent_bytes = 0;
        }
        self.recent_bytes += bytes;
        self.recent.insert(text, ids);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the ids of a segment had to be found anew.
    fn is_encoded(segments: &Segments, text: &str) -> bool {
        let (mut out, mut encoded) = (vec![7], false);
        segments.append(text, &mut out, |out| {
            encoded = true;
            out.extend(text.bytes().map(u32::from));
        });
        assert!(out[1..].iter().copied().eq(text.bytes().map(u32::from)));
        encoded
    }

    #[test]
    fn the_third_time_is_known() {
        let segments = Segments::new();
        let text = "a".repeat(SHORTEST);
        let encoded: Vec<bool> = (0..4).map(|_| is_encoded(&segments, &text)).collect();
        assert_eq!(encoded, [true, true, false, false]);
        let short = &text[1..];
        assert!((0..4).all(|_| is_encoded(&segments, short)));
    }

    #[test]
    fn memory_is_bounded_and_what_is_asked_for_stays() {
        let mut stripe = Stripe::default();
        let ids = vec![1; 1000];
        stripe.put("asked for", &ids);
        for at in 0..1_000 {
            stripe.put(&format!("{at}"), &ids);
            assert!(stripe.get("asked for").is_some(), "after {at}");
            let kept: usize = [&stripe.recent, &stripe.older]
                .iter()
                .flat_map(|known| known.iter())
                .map(|(text, ids)| text.len() + size_of_val(&**ids))
                .sum();
            assert!(kept <= LIMIT / STRIPES, "{kept} bytes after {at}");
        }
        assert!(stripe.get("0").is_none());
        stripe.put("too long", &vec![1; LIMIT]);
        assert!(stripe.get("too long").is_none());
    }
}
