// SPDX-License-Identifier: Apache-2.0

//! Limits of request fields. Those of the engine boundary equal `tests/wire/limits.json` (asserted by a test).

/// Largest accepted request body in bytes, unless configured.
pub const MAX_BODY_BYTES: usize = 32 << 20;
/// Most members of a request's JSON object.
pub const MAX_MEMBERS: usize = 1024;
/// Most choices of one request.
pub const MAX_N: i64 = 128;
/// Most stop strings.
pub const MAX_STOP_STRINGS: usize = 4;
/// Longest stop string or bad word, in bytes.
pub const MAX_STOP_BYTES: usize = 1024;
/// Most ids in `stop_token_ids`.
pub const MAX_STOP_TOKEN_IDS: usize = 1024;
/// Most entries of `bad_words`.
pub const MAX_BAD_WORDS: usize = 1024;
/// Most entries of `logit_bias`.
pub const MAX_LOGIT_BIAS: usize = 1024;
/// Most ids in `logprob_token_ids`, whatever `--max-logprobs` says.
pub const MAX_LOGPROB_TOKEN_IDS: usize = 1024;
/// Longest `chat_template`, in bytes; real ones have a few thousand.
pub const MAX_TEMPLATE_BYTES: usize = 64 << 10;
/// Most ids in `allowed_token_ids`: above every known vocabulary.
pub const MAX_ALLOWED_TOKEN_IDS: usize = 1 << 20;
/// Largest token id: ids travel as unsigned 32-bit numbers and vocabularies are far smaller.
pub const MAX_TOKEN_ID: i64 = i32::MAX as i64;
/// Range of `temperature`.
pub const TEMPERATURE: (f64, f64) = (0.0, 2.0);
/// Range of `presence_penalty` and `frequency_penalty`.
pub const PENALTY: (f64, f64) = (-2.0, 2.0);
/// Largest `repetition_penalty`: engines compute with 32 bits.
pub const MAX_REPETITION_PENALTY: f64 = 1e38;
/// Longest pattern that `repetition_detection` looks for, and most repetitions of it.
pub const MAX_PATTERN_SIZE: u64 = 4096;
/// Range that `logit_bias` values are clamped to.
pub const LOGIT_BIAS: (f64, f64) = (-100.0, 100.0);
/// Longest identifier (`request_id`, `cache_salt`, `session_id`, `user` and kin), in bytes.
pub const MAX_ID_BYTES: usize = 512;
/// Most messages of a chat request.
pub const MAX_MESSAGES: usize = 16_384;
/// Most documents of a chat request.
pub const MAX_DOCUMENTS: usize = 1024;
/// Most log probabilities of prompts in one answer, over all choices: two for each token of 131,072. Writing one takes
/// about half a microsecond, so all of them stay below 200 ms; and a choice's share of them fits what may wait for it.
pub const MAX_PROMPT_LOGPROBS: usize = 1 << 18;
/// Most tokens per event of a stream.
pub const MAX_STREAM_INTERVAL: i64 = 1024;
/// Most prompts of a completions request.
pub const MAX_PROMPTS: usize = 1024;
/// Most choices of a completions request, over all prompts.
pub const MAX_CHOICES: usize = 1024;
/// Largest `priority` in either direction: the engine keeps 64 bits, 32 travel everywhere.
pub const MAX_PRIORITY: i64 = i32::MAX as i64;

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::fields::{self, Field, Rule};

    /// The page that both languages read.
    fn page() -> Value {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../../tests/wire/limits.json"
        );
        let text =
            std::fs::read_to_string(path).expect("tests/wire/limits.json is part of the tree");
        serde_json::from_str(&text).expect("JSON")
    }

    fn rows(name: &str) -> impl Iterator<Item = &'static Field> {
        fields::all().filter(move |field| field.name == name)
    }

    /// A frontend may be stricter than the engine, never looser. A completion without tokens (`max_tokens` 0) asks the
    /// engine for one and leaves it out.
    #[test]
    fn every_row_is_within_the_engines_limits() {
        let page = page();
        for (name, limit) in page["parameters"].as_object().expect("an object") {
            let least = limit["minimum"]
                .as_f64()
                .or(limit["exclusive_minimum"].as_f64());
            let most = limit["maximum"].as_f64();
            for field in rows(name) {
                let (min, max) = match &field.rule {
                    Rule::Int((min, max), _) => (*min as f64, *max as f64),
                    Rule::Float(bounds, _) => {
                        assert_eq!(
                            bounds.open,
                            limit.get("exclusive_minimum").is_some(),
                            "{name}"
                        );
                        (bounds.min, bounds.max)
                    }
                    Rule::Candidates(_) => (0.0, f64::from(u32::MAX)),
                    Rule::Refused(..) | Rule::Bool(_) => continue,
                    _ => panic!("{name} is a number on the wire"),
                };
                let prompt_alone = (name.as_str(), min) == ("max_tokens", 0.0);
                assert!(
                    prompt_alone || least.is_none_or(|least| min >= least),
                    "{name}: {min}"
                );
                assert!(most.is_none_or(|most| max <= most), "{name}: {max}");
            }
            let known_elsewhere = ["max_tokens"].contains(&name.as_str());
            assert!(
                known_elsewhere || rows(name).next().is_some(),
                "{name} has no row"
            );
        }
    }

    #[test]
    fn bounds_of_the_wire_are_ours() {
        let page = page();
        let parameters = &page["parameters"];
        assert_eq!(parameters["temperature"]["maximum"], TEMPERATURE.1);
        assert_eq!(parameters["presence_penalty"]["minimum"], PENALTY.0);
        assert_eq!(parameters["frequency_penalty"]["maximum"], PENALTY.1);
        assert_eq!(page["repetition_detection"]["maximum"], MAX_PATTERN_SIZE);
        assert_eq!(page["logit_bias_clamp"]["minimum"], LOGIT_BIAS.0);
        assert_eq!(page["logit_bias_clamp"]["maximum"], LOGIT_BIAS.1);
    }
}
