// SPDX-License-Identifier: Apache-2.0

//! Wire messages and their MessagePack form, in both directions.
//!
//! The formats are positional arrays ("array-like structs"), maps and raw array buffers as the
//! engine's msgspec encoder writes them. Decoding accepts short and long arrays, unknown map keys
//! and every legal header size, refuses pickled extensions, allocates by what arrived and never by
//! what a header announces, and reports errors without any payload text.
//!
//! Nothing in here knows sockets.

mod array;
mod coordinator;
mod error;
mod frames;
mod handshake;
pub mod limits;
mod logprobs;
mod multimodal;
mod outputs;
mod pooling;
mod read;
mod request;
mod sampling;
mod stats;
mod utility;
mod write;

pub use array::{Dtype, Tensor};
pub use coordinator::{CoordinatorUpdate, EngineLoad, StartDpWave};
pub use error::DecodeError;
pub(crate) use frames::encode_abort as abort_payload;
pub use frames::{
    DEATH_SENTINEL, Frames, InputMessage, RequestType, engine_identity, engine_index,
};
pub use handshake::{EngineAddresses, EngineStatus, HandshakeMessage, InitMessage, ReadyResponse};
pub use limits::ParamError;
pub use logprobs::{Logprobs, SamplingMask, TokenLogprob};
pub use multimodal::{FeatureData, FeatureField, FieldKind, FieldSlice, MmFeature, MmPosition};
pub use outputs::{
    EngineCoreOutput, EngineCoreOutputs, EngineError, EngineEvent, EngineOutput, FinishReason,
    OutputsHeader, RareOutput, StopReason, decode_outputs,
};
pub use pooling::{LateInteraction, PoolingParams};
pub use read::Reader;
pub use request::{EngineCoreRequest, LoraRequest, request_id_of};
pub use sampling::{OutputKind, RepetitionDetection, SamplingParams, StructuredOutputs};
pub use stats::{CacheStats, PrefillStats, SchedulerStats, SpecDecodeMetrics, SpecDecodingStats};
pub use utility::{UtilityOutput, UtilityRequest, utility_call_of};
