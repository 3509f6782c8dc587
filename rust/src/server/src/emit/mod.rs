// SPDX-License-Identifier: Apache-2.0

//! Answers: chunks of a stream and whole bodies, both from the same deltas.

pub mod envelope;
pub mod fold;
pub mod interval;
pub mod json;
pub mod keep_alive;
pub mod logprobs;
pub mod pooled;
pub mod sse;
