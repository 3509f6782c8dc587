// SPDX-License-Identifier: Apache-2.0

//! What an engine step produced. This is the hot message: one per step, an output per request.
//!
//! Decoding calls back once per output, so that a caller can route it without a copy, and isolates
//! faults: an output that breaks the format fails alone, and the rest of the message is read on.

use rmpv::Value;
use smallvec::SmallVec;

use super::array::Tensor;
use super::error::DecodeError;
use super::frames::Frames;
use super::logprobs::{Logprobs, SamplingMask, TokenLogprob};
use super::read::{Reader, Slots};
use super::request::{decode_headers, encode_headers};
use super::stats::{PrefillStats, SchedulerStats, SpecDecodeMetrics};
use super::utility::UtilityOutput;
use super::write::Writer;

type Result<T> = std::result::Result<T, DecodeError>;

/// Why a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FinishReason {
    /// End of sequence or a stop token.
    Stop = 0,
    /// The token limit or the context's end.
    Length = 1,
    /// Aborted by a client or by the engine's shutdown.
    Abort = 2,
    /// The engine failed on it.
    Error = 3,
    /// A repeating pattern was detected.
    Repetition = 4,
}

impl FinishReason {
    fn from_wire(value: i64) -> Result<Self> {
        Ok(match value {
            0 => Self::Stop,
            1 => Self::Length,
            2 => Self::Abort,
            3 => Self::Error,
            4 => Self::Repetition,
            _ => {
                return Err(DecodeError::UnknownValue {
                    field: "finish_reason",
                    value,
                });
            }
        })
    }
}

/// What stopped a request, where it was not the end-of-sequence token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// A stop token id.
    Token(i64),
    /// A stop string.
    Text(Box<str>),
}

/// The engine's own account of a failed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineError {
    /// Stable code, such as `validation_error` or `engine_paused`.
    pub code: String,
    /// Text for a person.
    pub message: String,
    /// The same request may succeed later.
    pub retryable: bool,
}

/// Something that happened to a request, in the engine's monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EngineEvent {
    /// 1 queued, 2 scheduled, 3 preempted; other numbers are newer than this code.
    pub kind: i64,
    /// Seconds of the engine's monotonic clock.
    pub timestamp: f64,
}

impl EngineOutput {
    /// Tokens that the step computed for the request: those of its prompt count with its first output, but
    /// for those that came from another host.
    pub(crate) fn step_tokens(&self) -> u64 {
        let stats = self.prefill_stats.as_deref();
        let prompt = stats.map_or(0, |s| {
            s.num_prompt_tokens
                .saturating_sub(s.num_external_cached_tokens)
        });
        prompt.saturating_add(self.new_token_ids.len() as u64)
    }

    /// Memory that it takes while it waits, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let logprobs = [&self.logprobs, &self.prompt_logprobs];
        let candidates: usize = logprobs
            .into_iter()
            .flatten()
            .map(|logprobs| logprobs.entries.len())
            .sum();
        let ids = self.new_token_ids.len() * size_of::<u32>();
        size_of::<Self>() + ids + candidates * size_of::<TokenLogprob>()
    }
}

/// Fields that ordinary text requests don't have.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RareOutput {
    /// Result of a pooling request.
    pub pooling_output: Option<Tensor>,
    /// Queueing and scheduling events.
    pub events: Vec<EngineEvent>,
    /// A KV connector's parameters.
    pub kv_transfer_params: Option<Value>,
    /// An encoder-cache connector's parameters.
    pub ec_transfer_params: Option<Value>,
    /// Tracing headers.
    pub trace_headers: Vec<(String, String)>,
    /// Experts chosen, `[tokens, layers, k]`.
    pub routed_experts: Option<Tensor>,
    /// NaNs seen in the logits.
    pub num_nans_in_logits: u64,
    /// Media items the engine's cache no longer has: retry with their data.
    pub mm_cache_miss_hashes: Vec<String>,
    /// Tokens that sampling could have chosen.
    pub sampling_mask: Option<SamplingMask>,
    /// Speculative decoding of the request.
    pub spec_decode_metrics: Option<SpecDecodeMetrics>,
    /// Log probabilities of given ids at each prompt position, float32 `[rows, ids]`.
    pub prompt_token_id_logprobs: Option<Tensor>,
}

/// One request's share of an engine step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EngineOutput {
    /// New tokens; several with speculative decoding, none in a rejection.
    pub new_token_ids: SmallVec<[u32; 4]>,
    /// Log probabilities of the new tokens.
    pub logprobs: Option<Box<Logprobs>>,
    /// Log probabilities of the prompt, on the first output.
    pub prompt_logprobs: Option<Box<Logprobs>>,
    /// Set on the last output.
    pub finish: Option<FinishReason>,
    /// What stopped the request.
    pub stop_reason: Option<StopReason>,
    /// Set when `finish` is [`FinishReason::Error`] and the engine says why.
    pub error: Option<Box<EngineError>>,
    /// Set on the first output.
    pub prefill_stats: Option<Box<PrefillStats>>,
    /// Engine's monotonic clock at the end of the step, in seconds.
    pub timestamp: f64,
    /// Everything else.
    pub rare: Option<Box<RareOutput>>,
}

impl EngineOutput {
    /// One token and nothing else.
    #[inline]
    fn plain(token: u32) -> Self {
        Self {
            new_token_ids: SmallVec::from_buf_and_len([token, 0, 0, 0], 1),
            ..Self::default()
        }
    }
}

/// An [`EngineOutput`] with its request's id.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EngineCoreOutput {
    /// Internal id of the request.
    pub request_id: String,
    /// Its output.
    pub output: EngineOutput,
}

/// A message on the output plane without its outputs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OutputsHeader {
    /// Sender.
    pub engine_index: u32,
    /// Gauges and counts; one frontend of several gets them.
    pub scheduler_stats: Option<Box<SchedulerStats>>,
    /// Engine's monotonic clock in seconds.
    pub timestamp: f64,
    /// Reply to a utility call.
    pub utility_output: Option<Box<UtilityOutput>>,
    /// Ids that ended; not authoritative, `finish` is.
    pub finished_requests: Vec<String>,
    /// Wave that ended (coordinator only).
    pub wave_complete: Option<u64>,
    /// Wave that began (coordinator only).
    pub start_wave: Option<u64>,
    /// Label of the loaded weights.
    pub weight_version: Option<String>,
}

/// A message on the output plane.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EngineCoreOutputs {
    /// Everything but the outputs.
    pub header: OutputsHeader,
    /// One per request that made progress.
    pub outputs: Vec<EngineCoreOutput>,
}

/// Decodes a message, calling `each` with every output's request id and content.
///
/// An output that breaks the format reaches `each` as an error with the id it names. The returned
/// error is for a message whose structure is broken: outputs before that place were delivered.
pub fn decode_outputs(
    frames: &Frames,
    each: impl FnMut(&[u8], Result<EngineOutput>),
) -> Result<OutputsHeader> {
    let mut r = Reader::new(frames.payload());
    let mut out = OutputsHeader::default();
    let mut slots = r.slots("outputs message")?;
    if slots.take() {
        out.engine_index = r.uint32("engine_index")?;
    }
    if slots.take() {
        decode_batch(&mut r, frames, each)?;
    }
    decode_header(&mut r, slots, &mut out)?;
    Ok(out)
}

/// Fields after the outputs. A broken one costs its own content only: it is skipped by structure.
fn decode_header(r: &mut Reader<'_>, mut slots: Slots, out: &mut OutputsHeader) -> Result<()> {
    if slots.take() {
        out.scheduler_stats = lenient(r, SchedulerStats::decode)?.map(Box::new);
    }
    if slots.take() {
        out.timestamp = lenient(r, |r| r.f64("timestamp"))?.unwrap_or(0.0);
    }
    if slots.take() {
        out.utility_output = lenient(r, UtilityOutput::decode)?.map(Box::new);
    }
    if slots.take() {
        let ids = lenient(r, |r| {
            r.vec("finished_requests", |r| r.string("finished_requests"))
        })?;
        out.finished_requests = ids.unwrap_or_default();
    }
    if slots.take() {
        out.wave_complete = lenient(r, |r| r.u64("wave_complete"))?;
    }
    if slots.take() {
        out.start_wave = lenient(r, |r| r.u64("start_wave"))?;
    }
    if slots.take() {
        out.weight_version = lenient(r, |r| r.string("weight_version"))?;
    }
    slots.finish(r, "outputs message")
}

/// Reads a nullable value; one that breaks its own format is skipped and counts as absent.
/// Pickles make the whole message an error.
fn lenient<'a, T>(
    r: &mut Reader<'a>,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T>,
) -> Result<Option<T>> {
    let start = r.position();
    r.nullable(read).or_else(|error| {
        r.rewind(start);
        // A pickle is no mistake: nothing of such a message is worth having.
        if matches!(error, DecodeError::Extension { .. }) || r.next_is_extension() {
            return Err(error);
        }
        r.skip("outputs message")?;
        tracing::warn!(%error, "ignoring a field of an engine message that can't be decoded");
        Ok(None)
    })
}

fn decode_batch<'a>(
    r: &mut Reader<'a>,
    frames: &'a Frames,
    mut each: impl FnMut(&[u8], Result<EngineOutput>),
) -> Result<()> {
    if r.nil() {
        return Ok(());
    }
    for _ in 0..r.array_len("outputs")? {
        if let Some((id, token, rest)) = split_plain(r.rest()) {
            r.resume_at(rest);
            each(id, Ok(EngineOutput::plain(token)));
            continue;
        }
        let start = r.position();
        let mut id: &[u8] = &[];
        match decode_output(r, frames, &mut id) {
            Ok(output) => each(id, Ok(output)),
            Err(error) => {
                match id {
                    [] => tracing::warn!(%error, "skipping an engine output that names no request"),
                    id => each(id, Err(error)),
                }
                r.rewind(start);
                r.skip("outputs")?;
            }
        }
    }
    Ok(())
}

/// The most frequent output by its bytes, one token and nothing else: its request's id, the token and what follows.
/// A tenth of the instructions that reading slot by slot takes; `None` leaves every other form to that.
#[inline]
fn split_plain(bytes: &[u8]) -> Option<(&[u8], u32, &[u8])> {
    // An array of 19: the id, an array of one, and slots 2 to 18.
    let [0xdc, 0, 19, marker @ 0xa0..=0xbf, rest @ ..] = bytes else {
        return None;
    };
    let (id, rest) = rest.split_at_checked(usize::from(marker & 0x1f))?;
    let (token, rest) = match rest {
        [0x91, token @ 0..=0x7f, rest @ ..] => (u32::from(*token), rest),
        [0x91, 0xcd, a, b, rest @ ..] => (u32::from(u16::from_be_bytes([*a, *b])), rest),
        [0x91, 0xce, a, b, c, d, rest @ ..] => (u32::from_be_bytes([*a, *b, *c, *d]), rest),
        _ => return None,
    };
    Some((id, token, rest.strip_prefix(&PLAIN)?))
}

/// Decodes one output; `id` is set as soon as it is known, also when the rest fails.
fn decode_output<'a>(
    r: &mut Reader<'a>,
    frames: &'a Frames,
    id: &mut &'a [u8],
) -> Result<EngineOutput> {
    let mut out = EngineOutput::default();
    let mut slots = r.slots("output")?;
    slots.require("request_id")?;
    *id = r.str_bytes("request_id")?;
    slots.require("new_token_ids")?;
    let count = r.array_len("new_token_ids")?;
    for _ in 0..count {
        out.new_token_ids.push(r.uint32("new_token_ids")?);
    }
    if slots.take() {
        out.logprobs = r.nullable(|r| Logprobs::decode(r, frames, "new_logprobs", 1))?;
    }
    if slots.left() == PLAIN.len() - 1 && r.take_exactly(&PLAIN[1..]) {
        return Ok(out);
    }
    decode_common(r, frames, &mut slots, &mut out)?;
    decode_tail(r, frames, slots, &mut out)?;
    Ok(out)
}

/// Slots 2 to 18 of an output that brings tokens and nothing else: no NaNs (slot 13), else nil. Most outputs are so.
const PLAIN: [u8; 17] = {
    let mut plain = [0xc0; 17];
    plain[13 - 2] = 0;
    plain
};

/// Slots 3 to 6.
fn decode_common<'a>(
    r: &mut Reader<'a>,
    frames: &'a Frames,
    slots: &mut Slots,
    out: &mut EngineOutput,
) -> Result<()> {
    if slots.take() {
        const FIELD: &str = "new_prompt_logprobs_tensors";
        out.prompt_logprobs = r.nullable(|r| Logprobs::decode(r, frames, FIELD, 2))?;
    }
    if slots.take() && !r.nil() {
        rare(out).pooling_output = Some(Tensor::decode(r, frames, "pooling_output")?);
    }
    if slots.take() && !r.nil() {
        out.finish = Some(FinishReason::from_wire(r.i64("finish_reason")?)?);
    }
    if slots.take() {
        out.stop_reason = r.nullable(stop_reason)?;
    }
    Ok(())
}

fn rare(out: &mut EngineOutput) -> &mut RareOutput {
    out.rare.get_or_insert_default()
}

fn stop_reason(r: &mut Reader<'_>) -> Result<StopReason> {
    use rmp::Marker::{FixStr, Str8, Str16, Str32};
    match r.peek() {
        Some(FixStr(_) | Str8 | Str16 | Str32) => r
            .str("stop_reason")
            .map(|text| StopReason::Text(text.into())),
        _ => r.i64("stop_reason").map(StopReason::Token),
    }
}

/// Slots 7 to 18.
fn decode_tail<'a>(
    r: &mut Reader<'a>,
    frames: &'a Frames,
    mut slots: Slots,
    out: &mut EngineOutput,
) -> Result<()> {
    if slots.take() && !r.nil() {
        rare(out).events = r.vec("events", event)?;
    }
    if slots.take() && !r.nil() {
        rare(out).kv_transfer_params = Some(r.value("kv_transfer_params")?);
    }
    if slots.take() && !r.nil() {
        rare(out).ec_transfer_params = Some(r.value("ec_transfer_params")?);
    }
    if slots.take() && !r.nil() {
        rare(out).trace_headers = decode_headers(r)?;
    }
    if slots.take() {
        out.prefill_stats = r.nullable(PrefillStats::decode)?.map(Box::new);
    }
    if slots.take() && !r.nil() {
        rare(out).routed_experts = Some(Tensor::decode(r, frames, "routed_experts")?);
    }
    if slots.take() && !r.nil() {
        match r.u64("num_nans_in_logits")? {
            0 => {}
            count => rare(out).num_nans_in_logits = count,
        }
    }
    if slots.take() && !r.nil() {
        const FIELD: &str = "mm_cache_miss_hashes";
        rare(out).mm_cache_miss_hashes = r.vec(FIELD, |r| r.string(FIELD))?;
    }
    if slots.take() && !r.nil() {
        rare(out).sampling_mask = Some(SamplingMask::decode(r, frames, "new_sampling_mask")?);
    }
    if slots.take() && !r.nil() {
        rare(out).spec_decode_metrics = Some(SpecDecodeMetrics::decode(r)?);
    }
    if slots.take() && !r.nil() {
        const FIELD: &str = "prompt_token_id_logprobs";
        rare(out).prompt_token_id_logprobs = Some(Tensor::decode(r, frames, FIELD)?);
    }
    if slots.take() {
        out.error = r.nullable(EngineError::decode)?.map(Box::new);
    }
    slots.finish(r, "output")
}

fn event(r: &mut Reader<'_>) -> Result<EngineEvent> {
    let mut out = EngineEvent {
        kind: 0,
        timestamp: 0.0,
    };
    r.entries("events", |r, key| {
        match key {
            b"type" => out.kind = r.i64("events")?,
            b"timestamp" => out.timestamp = r.f64("events")?,
            _ => r.skip("events")?,
        }
        Ok(())
    })?;
    Ok(out)
}

impl EngineError {
    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let mut out = Self {
            code: String::new(),
            message: String::new(),
            retryable: false,
        };
        r.entries("error", |r, key| {
            match key {
                b"code" => out.code = r.string("error")?,
                b"message" => out.message = r.string("error")?,
                b"retryable" => out.retryable = r.bool("error")?,
                _ => r.skip("error")?,
            }
            Ok(())
        })?;
        Ok(out)
    }

    fn encode(&self, w: &mut Writer) {
        w.map(3);
        w.str("code");
        w.str(&self.code);
        w.str("message");
        w.str(&self.message);
        w.str("retryable");
        w.bool(self.retryable);
    }
}

impl EngineCoreOutputs {
    /// Decodes a whole message; an output that breaks the format fails it.
    pub fn decode(frames: &Frames) -> Result<Self> {
        let mut outputs = Vec::new();
        let mut first_error = None;
        let header = decode_outputs(frames, |id, output| match output {
            Ok(output) => {
                let request_id = String::from_utf8_lossy(id).into_owned();
                outputs.push(EngineCoreOutput { request_id, output });
            }
            Err(error) => first_error = first_error.take().or(Some(error)),
        })?;
        if let Some(error) = first_error {
            return Err(error);
        }
        outputs
            .iter_mut()
            .for_each(|output| output.output.timestamp = header.timestamp);
        Ok(Self { header, outputs })
    }

    /// Encodes the message: MessagePack frame first, then out-of-band buffers.
    pub fn encode(&self) -> Vec<bytes::Bytes> {
        let mut w = Writer::with_capacity(64 + 48 * self.outputs.len());
        let header = &self.header;
        w.array(9);
        w.u64(u64::from(header.engine_index));
        w.seq(&self.outputs, |w, output| output.encode(w));
        w.option(header.scheduler_stats.as_deref(), |w, stats| {
            stats.encode(w)
        });
        w.f64(header.timestamp);
        w.option(header.utility_output.as_deref(), |w, reply| reply.encode(w));
        let finished = (!header.finished_requests.is_empty()).then_some(&header.finished_requests);
        w.option(finished, |w, ids| w.seq(ids, |w, id| w.str(id)));
        w.option(header.wave_complete, Writer::u64);
        w.option(header.start_wave, Writer::u64);
        w.option(header.weight_version.as_deref(), Writer::str);
        let (payload, aux) = w.into_parts();
        std::iter::once(payload.into()).chain(aux).collect()
    }
}

impl EngineCoreOutput {
    fn encode(&self, w: &mut Writer) {
        let out = &self.output;
        let none = RareOutput::default();
        let rare = out.rare.as_deref().unwrap_or(&none);
        w.array(19);
        w.str(&self.request_id);
        w.u32s(&out.new_token_ids);
        w.option(out.logprobs.as_ref(), |w, logprobs| {
            logprobs.encode_lists(w)
        });
        w.option(out.prompt_logprobs.as_ref(), |w, logprobs| {
            logprobs.encode_tensors(w)
        });
        w.option(rare.pooling_output.as_ref(), |w, tensor| tensor.encode(w));
        w.option(out.finish, |w, finish| w.u64(finish as u64));
        w.option(out.stop_reason.as_ref(), |w, reason| match reason {
            StopReason::Token(id) => w.i64(*id),
            StopReason::Text(text) => w.str(text),
        });
        rare.encode_middle(w);
        w.option(out.prefill_stats.as_ref(), |w, stats| stats.encode(w));
        rare.encode_end(w);
        w.option(out.error.as_ref(), |w, error| error.encode(w));
    }
}

fn non_empty<T>(items: &[T]) -> Option<&[T]> {
    (!items.is_empty()).then_some(items)
}

impl RareOutput {
    /// Slots 7 to 10.
    fn encode_middle(&self, w: &mut Writer) {
        w.option(non_empty(&self.events), |w, events| {
            w.seq(events, |w, event| {
                w.map(2);
                w.str("type");
                w.i64(event.kind);
                w.str("timestamp");
                w.f64(event.timestamp);
            });
        });
        w.option(self.kv_transfer_params.as_ref(), Writer::value);
        w.option(self.ec_transfer_params.as_ref(), Writer::value);
        w.option(non_empty(&self.trace_headers), |w, headers| {
            encode_headers(w, headers)
        });
    }

    /// Slots 12 to 17.
    fn encode_end(&self, w: &mut Writer) {
        w.option(self.routed_experts.as_ref(), |w, tensor| tensor.encode(w));
        w.u64(self.num_nans_in_logits);
        w.option(non_empty(&self.mm_cache_miss_hashes), |w, hashes| {
            w.seq(hashes, |w, hash| w.str(hash));
        });
        w.option(self.sampling_mask.as_ref(), |w, mask| mask.encode(w));
        w.option(self.spec_decode_metrics.as_ref(), |w, metrics| {
            metrics.encode(w)
        });
        w.option(self.prompt_token_id_logprobs.as_ref(), |w, tensor| {
            tensor.encode(w)
        });
    }
}
