// SPDX-License-Identifier: Apache-2.0

//! Limits of the wire and of sampling parameters, as constants, and the check that applies them.
//!
//! The numbers equal `tests/wire/limits.json`, which both languages assert. The bounds on
//! parameters are the ones whose violation an engine of the 0.33 wire doesn't survive.

use super::sampling::{SamplingParams, StructuredOutputs};

/// Arrays of this many bytes and more travel in a frame of their own.
pub const ZERO_COPY_THRESHOLD: usize = 256;
/// Nesting accepted in values whose content only a plug-in understands.
pub const MAX_DEPTH: usize = 64;
/// Dimensions of an array.
pub const MAX_DIMS: usize = 8;
/// Engines of one frontend: the identity has two bytes.
pub const MAX_ENGINES: usize = 65_536;

/// Presence and frequency penalty, lower end.
pub const MIN_PENALTY: f64 = -2.0;
/// Presence and frequency penalty, upper end.
pub const MAX_PENALTY: f64 = 2.0;
/// Highest temperature.
pub const MAX_TEMPERATURE: f64 = 2.0;
/// Below this temperature sampling is greedy.
pub const GREEDY_EPSILON: f64 = 1e-5;
/// Bound of a logit bias, either way; values are clamped to it.
pub const MAX_LOGIT_BIAS: f64 = 100.0;
/// Largest size and count of `repetition_detection`.
pub const MAX_PATTERN_SIZE: u64 = 4096;

/// Backends of structured outputs.
pub const BACKENDS: [&str; 4] = ["xgrammar", "guidance", "outlines", "lm-format-enforcer"];

/// A parameter that the engine would refuse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be {limit}, got {value}")]
pub struct ParamError {
    /// Name of the parameter.
    pub field: &'static str,
    /// The value given.
    pub value: String,
    /// What is accepted.
    pub limit: &'static str,
}

fn require(
    ok: bool,
    field: &'static str,
    value: impl std::fmt::Display,
    limit: &'static str,
) -> Result<(), ParamError> {
    if ok {
        Ok(())
    } else {
        Err(ParamError {
            field,
            value: value.to_string(),
            limit,
        })
    }
}

impl SamplingParams {
    /// Checks everything an engine would refuse, naming the field, the value and the limit.
    pub fn validate(&self) -> Result<(), ParamError> {
        self.validate_distribution()?;
        self.validate_lengths()?;
        self.validate_logprobs()?;
        self.validate_repetition()?;
        self.structured_outputs
            .as_ref()
            .map_or(Ok(()), StructuredOutputs::validate)
    }

    fn validate_distribution(&self) -> Result<(), ParamError> {
        let penalty = MIN_PENALTY..=MAX_PENALTY;
        let (presence, frequency) = (self.presence_penalty, self.frequency_penalty);
        require(
            penalty.contains(&presence),
            "presence_penalty",
            presence,
            "from -2 to 2",
        )?;
        require(
            penalty.contains(&frequency),
            "frequency_penalty",
            frequency,
            "from -2 to 2",
        )?;
        let repetition = self.repetition_penalty;
        let positive = repetition.is_finite() && repetition > 0.0;
        require(
            positive,
            "repetition_penalty",
            repetition,
            "finite and above 0",
        )?;
        let in_range = (0.0..=MAX_TEMPERATURE).contains(&self.temperature);
        require(in_range, "temperature", self.temperature, "from 0 to 2")?;
        require(
            self.top_p > 0.0 && self.top_p <= 1.0,
            "top_p",
            self.top_p,
            "above 0, at most 1",
        )?;
        require(
            self.top_k >= -1,
            "top_k",
            self.top_k,
            "-1 (off), 0 (off) or positive",
        )?;
        require(
            (0.0..=1.0).contains(&self.min_p),
            "min_p",
            self.min_p,
            "from 0 to 1",
        )?;
        let seed = self.seed.unwrap_or(0);
        let fits = i64::try_from(seed).is_ok() || u64::try_from(seed).is_ok();
        require(fits, "seed", seed, "within int64 or uint64")?;
        let greedy = self.temperature < GREEDY_EPSILON;
        require(
            !greedy || self.n == 1,
            "n",
            self.n,
            "1 when temperature is 0",
        )
    }

    fn validate_lengths(&self) -> Result<(), ParamError> {
        require(self.n >= 1, "n", self.n, "at least 1")?;
        if let Some(max) = self.max_tokens {
            require(max >= 1, "max_tokens", max, "at least 1")?;
            require(
                self.min_tokens <= max,
                "min_tokens",
                self.min_tokens,
                "at most max_tokens",
            )?;
        }
        if let Some(interval) = self.stream_interval {
            require(interval >= 1, "stream_interval", interval, "at least 1")?;
        }
        let no_empty = |items: &[String]| items.iter().all(|item| !item.is_empty());
        require(
            no_empty(&self.stop),
            "stop",
            "an empty string",
            "non-empty strings",
        )?;
        require(
            no_empty(&self.bad_words),
            "bad_words",
            "an empty string",
            "non-empty strings",
        )
    }

    fn validate_repetition(&self) -> Result<(), ParamError> {
        let Some(sizes) = self.repetition_detection else {
            return Ok(());
        };
        let (least, most) = (sizes.min_pattern_size, sizes.max_pattern_size);
        require(
            most <= MAX_PATTERN_SIZE,
            "repetition_detection.max_pattern_size",
            most,
            "at most 4096",
        )?;
        require(
            least <= most,
            "repetition_detection.min_pattern_size",
            least,
            "at most max_pattern_size",
        )?;
        let counts = if most == 0 { 0 } else { 2 };
        require(
            (counts..=MAX_PATTERN_SIZE).contains(&sizes.min_count),
            "repetition_detection.min_count",
            sizes.min_count,
            "from 2 to 4096",
        )
    }

    fn validate_logprobs(&self) -> Result<(), ParamError> {
        for (field, value) in [
            ("logprobs", self.logprobs),
            ("prompt_logprobs", self.prompt_logprobs),
        ] {
            let value = value.unwrap_or(0);
            require(value >= -1, field, value, "-1 (all) or at least 0")?;
        }
        Ok(())
    }
}

impl StructuredOutputs {
    fn validate_backend(&self) -> Result<(), ParamError> {
        let backend = self.backend.as_deref().unwrap_or(BACKENDS[0]);
        require(
            BACKENDS.contains(&backend),
            "structured_outputs.backend",
            backend,
            "xgrammar, guidance, outlines or lm-format-enforcer",
        )
    }

    /// Exactly one constraint must be given; none compiles otherwise.
    pub fn validate(&self) -> Result<(), ParamError> {
        self.validate_backend()?;
        let given = [
            self.json.is_some(),
            self.regex.is_some(),
            self.choice.is_some(),
            self.grammar.is_some(),
            self.json_object.is_some(),
            self.structural_tag.is_some(),
        ];
        let count = given.iter().filter(|given| **given).count();
        require(
            count == 1,
            "structured_outputs",
            format!("{count} constraints"),
            "one constraint",
        )?;
        let kind = self
            .json
            .as_ref()
            .is_none_or(|json| json.is_str() || json.is_map());
        require(
            kind,
            "structured_outputs.json",
            "another type",
            "a string or an object",
        )
    }
}
