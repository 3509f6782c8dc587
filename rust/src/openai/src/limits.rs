// SPDX-License-Identifier: Apache-2.0

//! Limits of request fields. Those of the engine boundary equal `tests/wire/limits.json` (asserted by a test).

/// Largest accepted request body in bytes, unless configured.
pub const MAX_BODY_BYTES: usize = 32 << 20;
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
/// Most ids in `allowed_token_ids`: above every known vocabulary.
pub const MAX_ALLOWED_TOKEN_IDS: usize = 1 << 20;
/// Largest token id: ids travel as unsigned 32-bit numbers and vocabularies are far smaller.
pub const MAX_TOKEN_ID: i64 = i32::MAX as i64;
/// Range of `temperature`.
pub const TEMPERATURE: (f64, f64) = (0.0, 2.0);
/// Range of `presence_penalty` and `frequency_penalty`.
pub const PENALTY: (f64, f64) = (-2.0, 2.0);
/// Range that `logit_bias` values are clamped to.
pub const LOGIT_BIAS: (f64, f64) = (-100.0, 100.0);
/// Longest identifier (`request_id`, `cache_salt`, `session_id`, `user` and kin), in bytes.
pub const MAX_ID_BYTES: usize = 512;
/// Most messages of a chat request.
pub const MAX_MESSAGES: usize = 16_384;
/// Most prompts of a completions request.
pub const MAX_PROMPTS: usize = 1024;
/// Most choices of a completions request, over all prompts.
pub const MAX_CHOICES: usize = 1024;
/// Largest `priority` in either direction: the engine keeps 64 bits, 32 travel everywhere.
pub const MAX_PRIORITY: i64 = i32::MAX as i64;
