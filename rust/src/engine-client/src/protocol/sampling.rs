// SPDX-License-Identifier: Apache-2.0

//! How tokens are chosen: `SamplingParams`, a map that leaves out keys at their default.

use std::collections::BTreeMap;

use rmpv::Value;

use super::array::Tensor;
use super::error::DecodeError;
use super::frames::Frames;
use super::limits::GREEDY_EPSILON;
use super::read::Reader;
use super::utility::encode_integer;
use super::write::Writer;

type Result<T> = std::result::Result<T, DecodeError>;

/// How outputs of one request are grouped by a client; the engine ignores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutputKind {
    /// Everything so far.
    #[default]
    Cumulative = 0,
    /// What is new.
    Delta = 1,
    /// Only the end.
    FinalOnly = 2,
}

/// Ends a request whose output repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RepetitionDetection {
    /// Longest pattern looked for, in tokens.
    pub max_pattern_size: u64,
    /// Shortest pattern looked for, in tokens.
    pub min_pattern_size: u64,
    /// Repetitions that end the request.
    pub min_count: u64,
}

/// A constraint on the output's form: exactly one of the first six is set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StructuredOutputs {
    /// JSON Schema, as text or as an object. Nothing else: another type kills a 0.33 engine.
    pub json: Option<Value>,
    /// Regular expression.
    pub regex: Option<String>,
    /// One of these strings.
    pub choice: Option<Vec<String>>,
    /// EBNF or Lark grammar.
    pub grammar: Option<String>,
    /// Any JSON object.
    pub json_object: Option<bool>,
    /// Structural tag, as JSON text.
    pub structural_tag: Option<String>,
    /// No free whitespace in JSON.
    pub disable_any_whitespace: bool,
    /// No properties beyond the schema's.
    pub disable_additional_properties: bool,
    /// Pattern of whitespace in JSON.
    pub whitespace_pattern: Option<String>,
    /// `xgrammar`, `guidance`, `outlines` or `lm-format-enforcer`; engines have no default.
    pub backend: Option<String>,
    /// The backend was chosen by the frontend, not by the user.
    pub backend_was_auto: bool,
}

/// How tokens are chosen. Field names are the wire's keys (those with a leading underscore lose it).
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// Completions per prompt; the frontend splits them, so an engine sees 1.
    pub n: u64,
    /// From -2 to 2.
    pub presence_penalty: f64,
    /// From -2 to 2.
    pub frequency_penalty: f64,
    /// Above 0; 1 is off.
    pub repetition_penalty: f64,
    /// 0 (greedy) to 2.
    pub temperature: f64,
    /// Marks generated text.
    pub watermarking: Option<bool>,
    /// Above 0, at most 1.
    pub top_p: f64,
    /// 0 and -1 are off.
    pub top_k: i64,
    /// 0 to 1.
    pub min_p: f64,
    /// Seed of the request's own generator, within int64 or uint64.
    pub seed: Option<i128>,
    /// Stop strings; the frontend matches them, engines never see text.
    pub stop: Vec<String>,
    /// Token ids that end the request.
    pub stop_token_ids: Vec<u32>,
    /// Go on after the end-of-sequence token.
    pub ignore_eos: bool,
    /// `None`: up to the context's end.
    pub max_tokens: Option<u64>,
    /// Stop tokens are masked until then.
    pub min_tokens: u64,
    /// Top candidates per token; -1 = all.
    pub logprobs: Option<i64>,
    /// Top candidates per prompt token; -1 = all.
    pub prompt_logprobs: Option<i64>,
    /// Ids whose log probability is wanted at each prompt position.
    pub prompt_logprob_token_ids: Option<Tensor>,
    /// First prompt position with log probabilities.
    pub prompt_logprob_start: Option<u64>,
    /// Ids whose log probability is wanted at each output position.
    pub logprob_token_ids: Option<Vec<u32>>,
    /// Client-side container choice.
    pub flat_logprobs: bool,
    /// Client-side detokenization.
    pub detokenize: bool,
    /// Client-side detokenization.
    pub skip_special_tokens: bool,
    /// Client-side detokenization.
    pub spaces_between_special_tokens: bool,
    /// Keep the matched stop string.
    pub include_stop_str_in_output: bool,
    /// Grouping of outputs.
    pub output_kind: OutputKind,
    /// Tokens per streamed output.
    pub stream_interval: Option<u64>,
    /// Client-side copying.
    pub skip_clone: bool,
    /// Client-side text hold-back.
    pub output_text_buffer_length: u64,
    /// End-of-sequence id; `None` when it is ignored.
    pub eos_token_id: Option<u32>,
    /// Stop ids and end-of-sequence ids, for the `min_tokens` mask.
    pub all_stop_token_ids: Vec<u32>,
    /// Watermarking was asked for and could not be applied.
    pub watermarking_skipped: bool,
    /// Constraint on the output's form.
    pub structured_outputs: Option<StructuredOutputs>,
    /// Added to logits, by token id; -100 to 100.
    pub logit_bias: Option<BTreeMap<u32, f64>>,
    /// Only these ids may be sampled.
    pub allowed_token_ids: Option<Vec<u32>>,
    /// Parameters for plug-ins.
    pub extra_args: Option<Value>,
    /// Strings that must not be generated.
    pub bad_words: Vec<String>,
    /// The same, tokenized by the frontend.
    pub bad_words_token_ids: Option<Vec<Vec<u32>>>,
    /// Compute the whole prompt.
    pub skip_reading_prefix_cache: Option<bool>,
    /// Reasoning tokens at most.
    pub thinking_token_budget: Option<u64>,
    /// Ends a request that repeats itself.
    pub repetition_detection: Option<RepetitionDetection>,
    /// First prompt position with routed experts.
    pub routed_experts_prompt_start: u64,
    /// Ids to force, for tracing.
    pub trace_decode_token_ids: Option<Vec<u32>>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            n: 1,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repetition_penalty: 1.0,
            temperature: 1.0,
            watermarking: None,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            seed: None,
            stop: Vec::new(),
            stop_token_ids: Vec::new(),
            ignore_eos: false,
            max_tokens: Some(16),
            min_tokens: 0,
            logprobs: None,
            prompt_logprobs: None,
            prompt_logprob_token_ids: None,
            prompt_logprob_start: None,
            logprob_token_ids: None,
            flat_logprobs: false,
            detokenize: true,
            skip_special_tokens: true,
            spaces_between_special_tokens: true,
            include_stop_str_in_output: false,
            output_kind: OutputKind::Cumulative,
            stream_interval: None,
            skip_clone: false,
            output_text_buffer_length: 0,
            eos_token_id: None,
            all_stop_token_ids: Vec::new(),
            watermarking_skipped: false,
            structured_outputs: None,
            logit_bias: None,
            allowed_token_ids: None,
            extra_args: None,
            bad_words: Vec::new(),
            bad_words_token_ids: None,
            skip_reading_prefix_cache: None,
            thinking_token_budget: None,
            repetition_detection: None,
            routed_experts_prompt_start: 0,
            trace_decode_token_ids: None,
        }
    }
}

/// Collects the entries of a map whose count is known only at the end.
struct MapWriter {
    body: Writer,
    count: usize,
}

impl MapWriter {
    /// Writes the entry when the value differs from its default.
    fn put<T: PartialEq>(
        &mut self,
        key: &str,
        value: &T,
        default: &T,
        write: impl FnOnce(&mut Writer, &T),
    ) {
        if value != default {
            self.count += 1;
            self.body.str(key);
            write(&mut self.body, value);
        }
    }

    fn float(&mut self, key: &str, value: f64, default: f64) {
        self.put(key, &value, &default, |w, value| w.f64(*value));
    }

    fn count(&mut self, key: &str, value: u64, default: u64) {
        self.put(key, &value, &default, |w, value| w.u64(*value));
    }

    fn flag(&mut self, key: &str, value: bool, default: bool) {
        self.put(key, &value, &default, |w, value| w.bool(*value));
    }

    fn option<T: PartialEq>(
        &mut self,
        key: &str,
        value: Option<&T>,
        write: impl FnOnce(&mut Writer, &T),
    ) {
        if let Some(value) = value {
            self.count += 1;
            self.body.str(key);
            write(&mut self.body, value);
        }
    }

    fn ids(&mut self, key: &str, ids: &[u32]) {
        self.option(key, (!ids.is_empty()).then_some(&ids), |w, ids| w.u32s(ids));
    }

    fn texts(&mut self, key: &str, texts: &[String]) {
        let texts = (!texts.is_empty()).then_some(&texts);
        self.option(key, texts, |w, texts| w.seq(texts, |w, text| w.str(text)));
    }
}

impl SamplingParams {
    pub(crate) fn encode(&self, w: &mut Writer) {
        let mut m = MapWriter {
            body: Writer::with_capacity(160),
            count: 0,
        };
        self.encode_distribution(&mut m);
        self.encode_stopping(&mut m);
        self.encode_logprobs(&mut m);
        self.encode_client_side(&mut m);
        self.encode_constraints(&mut m);
        w.append_map(m.count, m.body);
    }

    fn encode_distribution(&self, m: &mut MapWriter) {
        m.count("n", self.n, 1);
        m.float("presence_penalty", self.presence_penalty, 0.0);
        m.float("frequency_penalty", self.frequency_penalty, 0.0);
        m.float("repetition_penalty", self.repetition_penalty, 1.0);
        m.float("temperature", self.temperature, 1.0);
        m.float("top_p", self.top_p, 1.0);
        m.put("top_k", &self.top_k, &0, |w, k| w.i64(*k));
        m.float("min_p", self.min_p, 0.0);
        m.option("seed", self.seed.as_ref(), |w, seed| {
            encode_integer(w, *seed)
        });
        m.option("watermarking", self.watermarking.as_ref(), |w, on| {
            w.bool(*on)
        });
        m.flag("_watermarking_skipped", self.watermarking_skipped, false);
        m.option("logit_bias", self.logit_bias.as_ref(), |w, bias| {
            w.map(bias.len());
            for (id, value) in bias {
                w.u64(u64::from(*id));
                w.f64(*value);
            }
        });
    }

    fn encode_stopping(&self, m: &mut MapWriter) {
        m.texts("stop", &self.stop);
        m.ids("stop_token_ids", &self.stop_token_ids);
        m.flag("ignore_eos", self.ignore_eos, false);
        m.put("max_tokens", &self.max_tokens, &Some(16), |w, max| {
            w.option(*max, Writer::u64)
        });
        m.count("min_tokens", self.min_tokens, 0);
        m.option("_eos_token_id", self.eos_token_id.as_ref(), |w, id| {
            w.u64(u64::from(*id))
        });
        m.ids("_all_stop_token_ids", &self.all_stop_token_ids);
        let budget = self.thinking_token_budget.as_ref();
        m.option("thinking_token_budget", budget, |w, n| w.u64(*n));
        m.option(
            "repetition_detection",
            self.repetition_detection.as_ref(),
            |w, rule| {
                w.map(3);
                w.str("max_pattern_size");
                w.u64(rule.max_pattern_size);
                w.str("min_pattern_size");
                w.u64(rule.min_pattern_size);
                w.str("min_count");
                w.u64(rule.min_count);
            },
        );
    }

    fn encode_logprobs(&self, m: &mut MapWriter) {
        m.option("logprobs", self.logprobs.as_ref(), |w, k| w.i64(*k));
        m.option("prompt_logprobs", self.prompt_logprobs.as_ref(), |w, k| {
            w.i64(*k)
        });
        let ids = self.prompt_logprob_token_ids.as_ref();
        m.option("prompt_logprob_token_ids", ids, |w, ids| ids.encode(w));
        m.option(
            "prompt_logprob_start",
            self.prompt_logprob_start.as_ref(),
            |w, n| w.u64(*n),
        );
        m.option(
            "logprob_token_ids",
            self.logprob_token_ids.as_ref(),
            |w, ids| w.u32s(ids),
        );
        m.count(
            "routed_experts_prompt_start",
            self.routed_experts_prompt_start,
            0,
        );
        let trace = self.trace_decode_token_ids.as_ref();
        m.option("trace_decode_token_ids", trace, |w, ids| w.u32s(ids));
    }

    fn encode_client_side(&self, m: &mut MapWriter) {
        m.flag("flat_logprobs", self.flat_logprobs, false);
        m.flag("detokenize", self.detokenize, true);
        m.flag("skip_special_tokens", self.skip_special_tokens, true);
        m.flag(
            "spaces_between_special_tokens",
            self.spaces_between_special_tokens,
            true,
        );
        m.flag(
            "include_stop_str_in_output",
            self.include_stop_str_in_output,
            false,
        );
        m.count("output_kind", self.output_kind as u64, 0);
        m.option("stream_interval", self.stream_interval.as_ref(), |w, n| {
            w.u64(*n)
        });
        m.flag("skip_clone", self.skip_clone, false);
        m.count(
            "output_text_buffer_length",
            self.output_text_buffer_length,
            0,
        );
    }

    fn encode_constraints(&self, m: &mut MapWriter) {
        let structured = self.structured_outputs.as_ref();
        m.option("structured_outputs", structured, |w, rule| rule.encode(w));
        m.option(
            "allowed_token_ids",
            self.allowed_token_ids.as_ref(),
            |w, ids| w.u32s(ids),
        );
        m.option("extra_args", self.extra_args.as_ref(), Writer::value);
        m.texts("bad_words", &self.bad_words);
        m.option(
            "_bad_words_token_ids",
            self.bad_words_token_ids.as_ref(),
            |w, words| {
                w.seq(words, |w, ids| w.u32s(ids));
            },
        );
        let skip = self.skip_reading_prefix_cache.as_ref();
        m.option("skip_reading_prefix_cache", skip, |w, skip| w.bool(*skip));
    }

    pub(crate) fn decode<'a>(r: &mut Reader<'a>, frames: &'a Frames) -> Result<Self> {
        let mut out = Self::default();
        r.entries("sampling_params", |r, key| {
            let known = out.decode_distribution(r, key)?
                || out.decode_stopping(r, key)?
                || out.decode_logprobs(r, frames, key)?
                || out.decode_client_side(r, key)?
                || out.decode_constraints(r, key)?;
            if known {
                Ok(())
            } else {
                r.skip("sampling_params")
            }
        })?;
        out.normalize();
        Ok(out)
    }

    /// The form that engines work with, whatever a client left out.
    fn normalize(&mut self) {
        self.all_stop_token_ids
            .extend_from_slice(&self.stop_token_ids);
        self.all_stop_token_ids.sort_unstable();
        self.all_stop_token_ids.dedup();
        // Positions served from the prefix cache have no logits to report.
        let prompt_logprobs = self.prompt_logprobs.is_some();
        self.skip_reading_prefix_cache
            .get_or_insert(prompt_logprobs);
        if self.temperature < GREEDY_EPSILON {
            (self.top_p, self.top_k, self.min_p) = (1.0, 0, 0.0);
        }
    }

    fn decode_distribution(&mut self, r: &mut Reader<'_>, key: &[u8]) -> Result<bool> {
        match key {
            b"n" => self.n = r.u64("n")?,
            b"presence_penalty" => self.presence_penalty = r.f64("presence_penalty")?,
            b"frequency_penalty" => self.frequency_penalty = r.f64("frequency_penalty")?,
            b"repetition_penalty" => self.repetition_penalty = r.f64("repetition_penalty")?,
            b"temperature" => self.temperature = r.f64("temperature")?,
            b"top_p" => self.top_p = r.f64("top_p")?,
            b"top_k" => self.top_k = r.i64("top_k")?,
            b"min_p" => self.min_p = r.f64("min_p")?,
            b"seed" => self.seed = r.nullable(|r| r.i128("seed"))?,
            b"watermarking" => self.watermarking = r.nullable(|r| r.bool("watermarking"))?,
            b"_watermarking_skipped" => {
                self.watermarking_skipped = r.bool("_watermarking_skipped")?;
            }
            b"logit_bias" => self.logit_bias = r.nullable(logit_bias)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn decode_stopping(&mut self, r: &mut Reader<'_>, key: &[u8]) -> Result<bool> {
        match key {
            b"stop" => self.stop = one_or_many(r, "stop")?,
            b"stop_token_ids" => self.stop_token_ids = optional_ids(r)?.unwrap_or_default(),
            b"ignore_eos" => self.ignore_eos = r.bool("ignore_eos")?,
            b"max_tokens" => self.max_tokens = r.nullable(|r| r.u64("max_tokens"))?,
            b"min_tokens" => self.min_tokens = r.u64("min_tokens")?,
            b"_eos_token_id" => {
                self.eos_token_id = r.nullable(|r| r.uint32("_eos_token_id"))?;
            }
            b"_all_stop_token_ids" => {
                self.all_stop_token_ids = optional_ids(r)?.unwrap_or_default();
            }
            b"thinking_token_budget" => {
                self.thinking_token_budget = r.nullable(|r| r.u64("thinking_token_budget"))?;
            }
            b"repetition_detection" => {
                self.repetition_detection = r.nullable(repetition_detection)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn decode_logprobs<'a>(
        &mut self,
        r: &mut Reader<'a>,
        frames: &'a Frames,
        key: &[u8],
    ) -> Result<bool> {
        match key {
            b"logprobs" => self.logprobs = r.nullable(|r| r.i64("logprobs"))?,
            b"prompt_logprobs" => {
                self.prompt_logprobs = r.nullable(|r| r.i64("prompt_logprobs"))?;
            }
            b"prompt_logprob_token_ids" => {
                const FIELD: &str = "prompt_logprob_token_ids";
                self.prompt_logprob_token_ids = r.nullable(|r| Tensor::decode(r, frames, FIELD))?;
            }
            b"prompt_logprob_start" => {
                self.prompt_logprob_start = r.nullable(|r| r.u64("prompt_logprob_start"))?;
            }
            b"logprob_token_ids" => self.logprob_token_ids = optional_ids(r)?,
            b"routed_experts_prompt_start" => {
                self.routed_experts_prompt_start = r.u64("routed_experts_prompt_start")?;
            }
            b"trace_decode_token_ids" => self.trace_decode_token_ids = optional_ids(r)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn decode_client_side(&mut self, r: &mut Reader<'_>, key: &[u8]) -> Result<bool> {
        match key {
            b"flat_logprobs" => self.flat_logprobs = r.bool("flat_logprobs")?,
            b"detokenize" => self.detokenize = r.bool("detokenize")?,
            b"skip_special_tokens" => self.skip_special_tokens = r.bool("skip_special_tokens")?,
            b"spaces_between_special_tokens" => {
                self.spaces_between_special_tokens = r.bool("spaces_between_special_tokens")?;
            }
            b"include_stop_str_in_output" => {
                self.include_stop_str_in_output = r.bool("include_stop_str_in_output")?;
            }
            b"output_kind" => self.output_kind = output_kind(r)?,
            b"stream_interval" => {
                self.stream_interval = r.nullable(|r| r.u64("stream_interval"))?;
            }
            b"skip_clone" => self.skip_clone = r.bool("skip_clone")?,
            b"output_text_buffer_length" => {
                self.output_text_buffer_length = r.u64("output_text_buffer_length")?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn decode_constraints(&mut self, r: &mut Reader<'_>, key: &[u8]) -> Result<bool> {
        match key {
            b"structured_outputs" => {
                self.structured_outputs = r.nullable(StructuredOutputs::decode)?;
            }
            b"allowed_token_ids" => self.allowed_token_ids = optional_ids(r)?,
            b"extra_args" => self.extra_args = r.nullable(|r| r.value("extra_args"))?,
            b"bad_words" => self.bad_words = one_or_many(r, "bad_words")?,
            b"_bad_words_token_ids" => {
                const FIELD: &str = "_bad_words_token_ids";
                self.bad_words_token_ids =
                    r.nullable(|r| r.vec(FIELD, |r| r.vec(FIELD, |r| r.uint32(FIELD))))?;
            }
            b"skip_reading_prefix_cache" => {
                self.skip_reading_prefix_cache =
                    r.nullable(|r| r.bool("skip_reading_prefix_cache"))?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn optional_ids(r: &mut Reader<'_>) -> Result<Option<Vec<u32>>> {
    r.nullable(|r| r.vec("token ids", |r| r.uint32("token ids")))
}

/// A string, a list of strings, or nil.
fn one_or_many(r: &mut Reader<'_>, field: &'static str) -> Result<Vec<String>> {
    use rmp::Marker::{Array16, Array32, FixArray};
    match r.peek() {
        Some(FixArray(_) | Array16 | Array32) => r.vec(field, |r| r.string(field)),
        _ => Ok(r.nullable(|r| r.string(field))?.into_iter().collect()),
    }
}

fn output_kind(r: &mut Reader<'_>) -> Result<OutputKind> {
    match r.i64("output_kind")? {
        0 => Ok(OutputKind::Cumulative),
        1 => Ok(OutputKind::Delta),
        2 => Ok(OutputKind::FinalOnly),
        value => Err(DecodeError::UnknownValue {
            field: "output_kind",
            value,
        }),
    }
}

fn logit_bias(r: &mut Reader<'_>) -> Result<BTreeMap<u32, f64>> {
    let count = r.map_len("logit_bias")?;
    (0..count)
        .map(|_| Ok((r.uint32("logit_bias")?, r.f64("logit_bias")?)))
        .collect()
}

fn repetition_detection(r: &mut Reader<'_>) -> Result<RepetitionDetection> {
    const FIELD: &str = "repetition_detection";
    let mut out = RepetitionDetection::default();
    r.entries(FIELD, |r, key| {
        match key {
            b"max_pattern_size" => out.max_pattern_size = r.u64(FIELD)?,
            b"min_pattern_size" => out.min_pattern_size = r.u64(FIELD)?,
            b"min_count" => out.min_count = r.u64(FIELD)?,
            _ => r.skip(FIELD)?,
        }
        Ok(())
    })?;
    Ok(out)
}

impl StructuredOutputs {
    fn encode(&self, w: &mut Writer) {
        w.map(11);
        w.str("json");
        w.option(self.json.as_ref(), Writer::value);
        w.str("regex");
        w.option(self.regex.as_deref(), Writer::str);
        w.str("choice");
        w.option(self.choice.as_ref(), |w, items| {
            w.seq(items, |w, item| w.str(item))
        });
        w.str("grammar");
        w.option(self.grammar.as_deref(), Writer::str);
        w.str("json_object");
        w.option(self.json_object, Writer::bool);
        w.str("disable_any_whitespace");
        w.bool(self.disable_any_whitespace);
        w.str("disable_additional_properties");
        w.bool(self.disable_additional_properties);
        w.str("whitespace_pattern");
        w.option(self.whitespace_pattern.as_deref(), Writer::str);
        w.str("structural_tag");
        w.option(self.structural_tag.as_deref(), Writer::str);
        w.str("_backend");
        w.option(self.backend.as_deref(), Writer::str);
        w.str("_backend_was_auto");
        w.bool(self.backend_was_auto);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        const FIELD: &str = "structured_outputs";
        let mut out = Self::default();
        r.entries(FIELD, |r, key| {
            match key {
                b"json" => out.json = r.nullable(|r| r.value(FIELD))?,
                b"regex" => out.regex = r.nullable(|r| r.string(FIELD))?,
                b"choice" => {
                    out.choice = r.nullable(|r| r.vec(FIELD, |r| r.string(FIELD)))?;
                }
                b"grammar" => out.grammar = r.nullable(|r| r.string(FIELD))?,
                b"json_object" => out.json_object = r.nullable(|r| r.bool(FIELD))?,
                b"disable_any_whitespace" => out.disable_any_whitespace = r.bool(FIELD)?,
                b"disable_additional_properties" => {
                    out.disable_additional_properties = r.bool(FIELD)?;
                }
                b"whitespace_pattern" => {
                    out.whitespace_pattern = r.nullable(|r| r.string(FIELD))?;
                }
                b"structural_tag" => out.structural_tag = r.nullable(|r| r.string(FIELD))?,
                b"_backend" => out.backend = r.nullable(|r| r.string(FIELD))?,
                b"_backend_was_auto" => out.backend_was_auto = r.bool(FIELD)?,
                _ => r.skip(FIELD)?,
            }
            Ok(())
        })?;
        Ok(out)
    }
}
