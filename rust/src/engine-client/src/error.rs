// SPDX-License-Identifier: Apache-2.0

//! What can go wrong between a frontend and its engines.

use std::time::Duration;

use crate::protocol::{DecodeError, ParamError};

/// Why an engine takes no requests.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineFailure {
    /// It announced its own death: its loop ended with an exception.
    #[error("engine {index} died from an internal error; see its log")]
    Died {
        /// Engine index.
        index: u32,
    },
    /// Its connection closed: the process ended or the network failed.
    #[error("engine {index} disconnected: its process ended or the connection broke")]
    Disconnected {
        /// Engine index.
        index: u32,
    },
    /// It came back as another than it was.
    #[error("engine {index} came back with max_model_len {now}, below {before}: it is not used")]
    Shrunk {
        /// Engine index.
        index: u32,
        /// Registered at the start.
        before: u64,
        /// Registered now.
        now: u64,
    },
    /// It did not answer in time.
    #[error("engine {index} did not answer within {} s", *.millis as f64 / 1e3)]
    Unresponsive {
        /// Engine index.
        index: u32,
        /// The limit.
        millis: u64,
    },
}

/// Why `connect` failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A socket could not be made from a listener.
    #[error("the {plane} listener can't be used: {reason}")]
    Listener {
        /// `input` or `output`.
        plane: &'static str,
        /// Cause.
        reason: String,
    },
    /// The engine range is empty or beyond the two-byte identity.
    #[error("engines {start}..{start}+{count}: between 1 and 65536 engines, indices below 65536")]
    EngineRange {
        /// First index.
        start: u32,
        /// Number of engines.
        count: u32,
    },
    /// Engines that did not register in time.
    #[error("engines {missing:?} did not register within {}s of the last that did", .timeout.as_secs())]
    Timeout {
        /// Indices of the missing engines.
        missing: Vec<u32>,
        /// The limit, restarted by every registration.
        timeout: Duration,
    },
    /// An engine registered with a frame that can't be used.
    #[error("engine {index} registered with an unusable frame: {source}")]
    Registration {
        /// Engine index.
        index: u32,
        /// What is wrong.
        source: DecodeError,
    },
    /// An engine registered with a value that this frontend doesn't support.
    #[error("engine {index}: {field} is {value}; accepted: {accepted}")]
    Unsupported {
        /// Engine index.
        index: u32,
        /// Key of the registration.
        field: &'static str,
        /// Its value.
        value: String,
        /// Accepted values.
        accepted: &'static str,
    },
}

/// Why a request was not sent.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SubmitError {
    /// A sampling parameter that the engine would refuse.
    #[error(transparent)]
    Invalid(#[from] ParamError),
    /// No engine takes requests.
    #[error("no engine is available: {0}")]
    NoEngine(EngineFailure),
    /// The request names an engine that this frontend doesn't have.
    #[error("data_parallel_rank {rank} does not exist: this server has {start} to {end}")]
    NoSuchRank {
        /// Rank asked for.
        rank: u32,
        /// First rank.
        start: u32,
        /// Last rank.
        end: u32,
    },
    /// The engine no longer reads its requests.
    #[error("engine {index} does not take requests: its input queue is full")]
    Backlog {
        /// Engine index.
        index: u32,
    },
    /// A shard has more streams than ids.
    #[error("too many requests in flight on one shard (limit {limit})")]
    TooManyRequests {
        /// The limit.
        limit: usize,
    },
    /// The client is closing.
    #[error("the server is shutting down")]
    Shutdown,
}

/// Why a stream ended without a finish reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// Its engine failed.
    #[error(transparent)]
    Engine(#[from] EngineFailure),
    /// The engine's answer to this request broke the wire format. The cause names fields only.
    #[error("the engine's answer could not be decoded: {0}")]
    Undecodable(DecodeError),
    /// The consumer left too much unread.
    #[error("the stream was not read: more was waiting than may ({limit})")]
    SlowReader {
        /// The limit: bytes of a stream, outputs of a shard.
        limit: usize,
    },
    /// The client is closing.
    #[error("the server is shutting down")]
    Shutdown,
}

impl StreamError {
    /// The engine is still there and would go on with the request when it wakes up.
    pub(crate) fn leaves_work(&self) -> bool {
        matches!(self, Self::Engine(EngineFailure::Unresponsive { .. }))
    }
}

/// Why a utility call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UtilityError {
    /// No engine takes calls.
    #[error("{method}: no engine is available")]
    NoEngine {
        /// Method called.
        method: String,
    },
    /// An engine answered with a failure.
    #[error("{method} failed on engine {index}: {message}")]
    Failed {
        /// Method called.
        method: String,
        /// Engine index.
        index: u32,
        /// The engine's text.
        message: String,
    },
    /// An engine did not answer.
    #[error("{method}: engine {index} did not answer within {} s", .timeout.as_secs_f64())]
    Timeout {
        /// Method called.
        method: String,
        /// Engine index.
        index: u32,
        /// The limit.
        timeout: Duration,
    },
    /// An engine went away before it answered.
    #[error("{method}: engine {index} went away before it answered")]
    EngineGone {
        /// Method called.
        method: String,
        /// Engine index.
        index: u32,
    },
}
