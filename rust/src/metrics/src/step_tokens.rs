// SPDX-License-Identifier: Apache-2.0

//! How many tokens engine steps computed: a histogram that is copied, not shared.

use crate::buckets::STEP_TOKENS;

/// Steps of one engine by their tokens, prompts and answers together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StepTokens {
    /// One per bound, then one for everything above: not cumulative.
    counts: [u64; STEP_TOKENS.len() + 1],
    sum: u64,
}

impl StepTokens {
    /// Records a step; one without tokens is none.
    pub fn observe(&mut self, tokens: u64) {
        if tokens == 0 {
            return;
        }
        let bucket = STEP_TOKENS.partition_point(|&bound| bound < tokens as f64);
        self.counts[bucket] += 1;
        self.sum = self.sum.wrapping_add(tokens);
    }

    pub(crate) fn counts(&self) -> impl Iterator<Item = u64> + '_ {
        self.counts.iter().copied()
    }

    pub(crate) fn sum(&self) -> f64 {
        self.sum as f64
    }
}
