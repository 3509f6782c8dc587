// SPDX-License-Identifier: Apache-2.0

//! The frontend's side of the boundary to the engine: ZMTP transport, MessagePack codec, handshake,
//! routing over engines and liveness.
//!
//! The crate knows token ids, never text: templates, tokenizers and HTTP live elsewhere. One
//! [`EngineClient`] per process owns the sockets; each shard (a current-thread runtime) takes a
//! [`ShardClient`] from it, submits requests and polls [`OutputStream`]s. An engine step is decoded
//! once and reaches a shard as one batch with one wake-up.

mod affinity;
pub mod balance;
mod client;
mod engine;
mod error;
pub mod handshake;
mod inbox;
mod liveness;
pub mod protocol;
mod registration;
mod request_id;
mod shard;
mod state;
mod transport;
mod utility;
mod watch;

pub use client::{EngineClient, TransportConfig};
pub use engine::{EngineState, EngineStats};
pub use error::{ConnectError, EngineFailure, StreamError, SubmitError, UtilityError};
pub use liveness::Patience;
pub use protocol::{
    EngineCoreRequest, EngineError, EngineOutput, FinishReason, Logprobs, PrefillStats,
    RepetitionDetection, SamplingParams, StopReason, TokenLogprob,
};
pub use registration::Registration;
pub use shard::{OutputStream, ShardClient};
pub use state::{EngineHealth, Health};
pub use vllm_zmtp::{Limits, Listener};

/// Number of the wire: minor version of the vLLM release whose protocol both sides speak.
///
/// The supervisor compares it, with X.Y.Z of the release, to the Python package's.
pub const WIRE_VERSION: u32 = 33;
