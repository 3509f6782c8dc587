// SPDX-License-Identifier: Apache-2.0

//! Counters and histograms of the frontend, their names, and the Prometheus text format.
//!
//! Owns: metric names, labels and buckets (those of vLLM's Python side), cells that cost a load and a
//! store to update, and the exposition. Must not know: everything else.
//!
//! Each shard writes cells of its own ([`ShardMetrics`]) and only that shard writes them, so an update
//! needs neither a lock nor an atomic read-modify-write; a scrape reads all shards and adds up.

mod buckets;
mod cell;
mod expose;
mod registry;
mod shard;
mod step_tokens;
mod text;

pub use cell::{Counter, Histogram};
pub use registry::{EngineGauges, Info, Metrics, ProcessCounters, QueueGauges};
pub use shard::{Finish, Handler, HttpMetrics, RequestMetrics, ShardMetrics};
pub use step_tokens::StepTokens;
