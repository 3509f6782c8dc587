// SPDX-License-Identifier: Apache-2.0

//! Cells with one writer: relaxed loads and stores, no read-modify-write.
//!
//! Readers on other threads see a value that was true a moment ago. A second writer would lose counts
//! (never memory safety), which is why a shard keeps its cells to itself.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; call only from the thread that owns the cell.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.0
            .store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// The value so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Counts of observations by upper bound, and their sum.
#[derive(Debug)]
pub struct Histogram {
    bounds: Box<[f64]>,
    /// One per bound, then one for everything above: not cumulative.
    counts: Box<[Counter]>,
    /// Bits of an `f64`.
    sum: AtomicU64,
}

impl Histogram {
    /// Bounds must rise; the infinite one is added.
    pub fn new(bounds: &[f64]) -> Self {
        debug_assert!(bounds.windows(2).all(|w| w[0] < w[1]), "bounds must rise");
        let counts = (0..=bounds.len()).map(|_| Counter::default()).collect();
        Self {
            bounds: bounds.into(),
            counts,
            sum: AtomicU64::new(0f64.to_bits()),
        }
    }

    /// Records a value; call only from the thread that owns the cell.
    #[inline]
    pub fn observe(&self, value: f64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        self.counts[bucket].inc();
        let sum = f64::from_bits(self.sum.load(Relaxed)) + value;
        self.sum.store(sum.to_bits(), Relaxed);
    }

    /// Upper bounds without the infinite one.
    pub fn bounds(&self) -> &[f64] {
        &self.bounds
    }

    /// Sum of all values.
    pub fn sum(&self) -> f64 {
        f64::from_bits(self.sum.load(Relaxed))
    }

    /// Counts per bucket, the last one above every bound.
    pub fn counts(&self) -> impl Iterator<Item = u64> + '_ {
        self.counts.iter().map(Counter::get)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::new(&[1.0, 2.0]);
        for value in [0.5, 1.0, 1.5, 2.0, 99.0] {
            histogram.observe(value);
        }
        assert_eq!(histogram.counts().collect::<Vec<_>>(), [2, 2, 1]);
        assert_eq!(histogram.sum(), 104.0);
    }
}
