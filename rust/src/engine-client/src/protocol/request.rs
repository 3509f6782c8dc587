// SPDX-License-Identifier: Apache-2.0

//! A request as the engine gets it (ADD), 22 slots.

use std::sync::Arc;

use bytes::Bytes;
use rmpv::Value;

use super::array::Tensor;
use super::error::DecodeError;
use super::frames::Frames;
use super::multimodal::MmFeature;
use super::pooling::PoolingParams;
use super::read::{Reader, Slots};
use super::sampling::SamplingParams;
use super::write::Writer;

type Result<T> = std::result::Result<T, DecodeError>;

/// An adapter to apply.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoraRequest {
    /// Its name.
    pub name: String,
    /// Its number, from 1.
    pub int_id: u64,
    /// Where the engine finds it.
    pub path: String,
    /// Name of the model it belongs to.
    pub base_model_name: Option<String>,
    /// Replace loaded weights in place.
    pub load_inplace: bool,
    /// Weights are three-dimensional (experts).
    pub is_3d_lora_weight: bool,
}

/// A request as the engine gets it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EngineCoreRequest {
    /// Internal id. `ShardClient::submit` fills it; what a caller puts here is replaced.
    pub request_id: String,
    /// Prompt; shared by the choices of one HTTP request.
    pub prompt_token_ids: Option<Arc<[u32]>>,
    /// Images, audio and video.
    pub mm_features: Option<Vec<MmFeature>>,
    /// How tokens are chosen.
    pub sampling_params: Option<SamplingParams>,
    /// How a pooling model is used.
    pub pooling_params: Option<PoolingParams>,
    /// Unix time in seconds.
    pub arrival_time: f64,
    /// Adapter.
    pub lora_request: Option<LoraRequest>,
    /// Separates prefix caches of tenants.
    pub cache_salt: Option<String>,
    /// Engine to use; otherwise the least loaded one.
    pub data_parallel_rank: Option<u32>,
    /// Embeddings instead of token ids.
    pub prompt_embeds: Option<Tensor>,
    /// Which positions are token ids, where ids and embeddings are mixed.
    pub prompt_is_token_ids: Option<Vec<bool>>,
    /// Index of the frontend among the engine's frontends.
    pub client_index: u32,
    /// Wave of engines in lockstep.
    pub current_wave: u64,
    /// Lower is earlier.
    pub priority: i64,
    /// Tracing headers.
    pub trace_headers: Option<Vec<(String, String)>>,
    /// The same id may be added to again.
    pub resumable: bool,
    /// The id that the user sees.
    pub external_req_id: Option<String>,
    /// Override of the structured-output gate.
    pub reasoning_ended: Option<bool>,
    /// Arguments of the reasoning parser.
    pub reasoning_parser_kwargs: Option<Value>,
    /// Enqueue, then abort: cleans up a KV connector.
    pub abort_immediately: bool,
    /// Session, for cache affinity.
    pub session_id: Option<String>,
    /// Hints for KV connectors.
    pub kv_hints: Option<Value>,
}

impl EngineCoreRequest {
    /// Encodes the payload frame and the out-of-band frames of an ADD.
    pub fn encode(&self) -> Vec<Bytes> {
        let prompt = self.prompt_token_ids.as_deref().unwrap_or(&[]);
        let mut w = Writer::with_capacity(256 + 3 * prompt.len());
        w.array(22);
        w.str(&self.request_id);
        w.option(self.prompt_token_ids.as_deref(), Writer::u32s);
        let features = self.mm_features.as_ref();
        w.option(features, |w, features| {
            w.seq(features, |w, feature| feature.encode(w))
        });
        w.option(self.sampling_params.as_ref(), |w, params| params.encode(w));
        w.option(self.pooling_params.as_ref(), |w, params| params.encode(w));
        w.f64(self.arrival_time);
        w.option(self.lora_request.as_ref(), |w, lora| lora.encode(w));
        w.option(self.cache_salt.as_deref(), Writer::str);
        w.option(self.data_parallel_rank, |w, rank| w.u64(u64::from(rank)));
        self.encode_optional(&mut w);
        let (payload, aux) = w.into_parts();
        std::iter::once(payload.into()).chain(aux).collect()
    }

    /// Slots 9 to 21.
    fn encode_optional(&self, w: &mut Writer) {
        w.option(self.prompt_embeds.as_ref(), |w, tensor| tensor.encode(w));
        let kinds = self.prompt_is_token_ids.as_ref();
        w.option(kinds, |w, kinds| w.seq(kinds, |w, kind| w.bool(*kind)));
        w.u64(u64::from(self.client_index));
        w.u64(self.current_wave);
        w.i64(self.priority);
        w.option(self.trace_headers.as_ref(), |w, headers| {
            encode_headers(w, headers)
        });
        w.bool(self.resumable);
        w.option(self.external_req_id.as_deref(), Writer::str);
        w.option(self.reasoning_ended, Writer::bool);
        w.option(self.reasoning_parser_kwargs.as_ref(), Writer::value);
        w.bool(self.abort_immediately);
        w.option(self.session_id.as_deref(), Writer::str);
        w.option(self.kv_hints.as_ref(), Writer::value);
    }

    /// Decodes an ADD; at least the nine required slots must be there.
    pub fn decode(frames: &Frames) -> Result<Self> {
        let mut r = Reader::new(frames.payload());
        let mut slots = r.slots("request")?;
        let mut out = Self::default();
        out.decode_required(&mut r, &mut slots, frames)?;
        out.decode_optional(&mut r, &mut slots, frames)?;
        slots.finish(&mut r, "request")?;
        r.end("request")?;
        Ok(out)
    }

    /// Slots 0 to 8.
    fn decode_required<'a>(
        &mut self,
        r: &mut Reader<'a>,
        slots: &mut Slots,
        frames: &'a Frames,
    ) -> Result<()> {
        slots.require("request_id")?;
        self.request_id = r.string("request_id")?;
        slots.require("prompt_token_ids")?;
        let ids = r.nullable(|r| r.vec("prompt_token_ids", |r| r.uint32("prompt_token_ids")))?;
        self.prompt_token_ids = ids.map(Into::into);
        slots.require("mm_features")?;
        self.mm_features =
            r.nullable(|r| r.vec("mm_features", |r| MmFeature::decode(r, frames)))?;
        slots.require("sampling_params")?;
        self.sampling_params = r.nullable(|r| SamplingParams::decode(r, frames))?;
        slots.require("pooling_params")?;
        self.pooling_params = r.nullable(PoolingParams::decode)?;
        slots.require("arrival_time")?;
        self.arrival_time = r.f64("arrival_time")?;
        slots.require("lora_request")?;
        self.lora_request = r.nullable(LoraRequest::decode)?;
        slots.require("cache_salt")?;
        self.cache_salt = r.nullable(|r| r.string("cache_salt"))?;
        slots.require("data_parallel_rank")?;
        self.data_parallel_rank = r.nullable(|r| r.uint32("data_parallel_rank"))?;
        Ok(())
    }

    /// Slots 9 to 21.
    fn decode_optional<'a>(
        &mut self,
        r: &mut Reader<'a>,
        slots: &mut Slots,
        frames: &'a Frames,
    ) -> Result<()> {
        if slots.take() {
            self.prompt_embeds = r.nullable(|r| Tensor::decode(r, frames, "prompt_embeds"))?;
        }
        if slots.take() {
            const FIELD: &str = "prompt_is_token_ids";
            self.prompt_is_token_ids = r.nullable(|r| r.vec(FIELD, |r| r.bool(FIELD)))?;
        }
        if slots.take() {
            self.client_index = r.uint32("client_index")?;
        }
        if slots.take() {
            self.current_wave = r.u64("current_wave")?;
        }
        if slots.take() {
            self.priority = r.i64("priority")?;
        }
        if slots.take() {
            self.trace_headers = r.nullable(decode_headers)?;
        }
        if slots.take() {
            self.resumable = r.bool("resumable")?;
        }
        if slots.take() {
            self.external_req_id = r.nullable(|r| r.string("external_req_id"))?;
        }
        if slots.take() {
            self.reasoning_ended = r.nullable(|r| r.bool("reasoning_ended"))?;
        }
        if slots.take() {
            self.reasoning_parser_kwargs = r.nullable(|r| r.value("reasoning_parser_kwargs"))?;
        }
        if slots.take() {
            self.abort_immediately = r.bool("abort_immediately")?;
        }
        if slots.take() {
            self.session_id = r.nullable(|r| r.string("session_id"))?;
        }
        if slots.take() {
            self.kv_hints = r.nullable(|r| r.value("kv_hints"))?;
        }
        Ok(())
    }
}

/// The id of an ADD whose other fields may be broken, so that an engine can answer it.
pub fn request_id_of(payload: &[u8]) -> Option<String> {
    let mut r = Reader::new(payload);
    r.array_len("request").ok().filter(|count| *count > 0)?;
    r.string("request_id").ok()
}

impl LoraRequest {
    pub(crate) fn encode(&self, w: &mut Writer) {
        w.array(6);
        w.str(&self.name);
        w.u64(self.int_id);
        w.str(&self.path);
        w.option(self.base_model_name.as_deref(), Writer::str);
        w.bool(self.load_inplace);
        w.bool(self.is_3d_lora_weight);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        const FIELD: &str = "lora_request";
        let mut slots = r.slots(FIELD)?;
        let mut out = Self::default();
        slots.require(FIELD)?;
        out.name = r.string(FIELD)?;
        slots.require(FIELD)?;
        out.int_id = r.u64(FIELD)?;
        if out.int_id == 0 {
            return Err(DecodeError::Range {
                field: FIELD,
                range: "1.. for lora_int_id",
            });
        }
        if slots.take() {
            out.path = r.string(FIELD)?;
        }
        if slots.take() {
            out.base_model_name = r.nullable(|r| r.string(FIELD))?;
        }
        if slots.take() {
            out.load_inplace = r.bool(FIELD)?;
        }
        if slots.take() {
            out.is_3d_lora_weight = r.bool(FIELD)?;
        }
        slots.finish(r, FIELD)?;
        Ok(out)
    }
}

pub(crate) fn encode_headers(w: &mut Writer, headers: &[(String, String)]) {
    w.map(headers.len());
    for (name, value) in headers {
        w.str(name);
        w.str(value);
    }
}

pub(crate) fn decode_headers(r: &mut Reader<'_>) -> Result<Vec<(String, String)>> {
    const FIELD: &str = "trace_headers";
    let count = r.map_len(FIELD)?;
    (0..count)
        .map(|_| Ok((r.string(FIELD)?, r.string(FIELD)?)))
        .collect()
}
