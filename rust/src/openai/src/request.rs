// SPDX-License-Identifier: Apache-2.0

//! What chat and completions requests have in common, typed and validated.

use serde_json::{Map, Value};

use crate::completions::Prompt;
use crate::error::ApiError;
use crate::messages::Message;

/// Sampling fields as the client gave them; `None` means the model's or the server's default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: Option<f64>,
    /// Nucleus mass in (0, 1].
    pub top_p: Option<f64>,
    /// Candidates kept; 0 and -1 keep all.
    pub top_k: Option<i64>,
    /// Least probability relative to the best candidate.
    pub min_p: Option<f64>,
    /// Added once to each token seen in the output.
    pub presence_penalty: Option<f64>,
    /// Added per occurrence in the output.
    pub frequency_penalty: Option<f64>,
    /// Divides or multiplies logits of tokens seen in prompt or output.
    pub repetition_penalty: Option<f64>,
    /// Seed of choice 0; choice i gets `seed + i`.
    pub seed: Option<i64>,
    /// Token id to bias, clamped to [-100, 100].
    pub logit_bias: Vec<(u32, f64)>,
    /// Stop strings, matched by the frontend.
    pub stop: Vec<String>,
    /// Token ids that end the output.
    pub stop_token_ids: Vec<u32>,
    /// No stop before this many tokens.
    pub min_tokens: Option<u32>,
    /// Most output tokens.
    pub max_tokens: Option<u32>,
    /// The end-of-sequence token does not end the output.
    pub ignore_eos: bool,
    /// Texts that must not be generated.
    pub bad_words: Vec<String>,
    /// Only these ids may be generated.
    pub allowed_token_ids: Vec<u32>,
    /// The stop string stays in the text.
    pub include_stop_str_in_output: bool,
    /// Special tokens do not show in the text (default true).
    pub skip_special_tokens: Option<bool>,
    /// Most tokens between the marks of a thought.
    pub thinking_token_budget: Option<u32>,
    /// An output that repeats itself ends.
    pub repetition_detection: Option<RepetitionDetection>,
}

/// `repetition_detection`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RepetitionDetection {
    /// Longest pattern looked for, in tokens; at least 1.
    pub max_pattern_size: u64,
    /// Shortest pattern looked for; 0 means 1.
    pub min_pattern_size: u64,
    /// So often in a row; at least 2.
    pub min_count: u64,
}

/// `stream_options`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamOptions {
    /// A last chunk carries the usage.
    pub include_usage: bool,
    /// Every chunk carries the usage so far.
    pub continuous_usage_stats: bool,
}

/// Everything that chat and completions share.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// Name of the model asked for.
    pub model: Option<String>,
    /// Choices per prompt, at least 1.
    pub n: Option<u32>,
    /// Candidates per prompt, of which the `n` likeliest are answered.
    pub best_of: Option<u32>,
    /// The prompt's text stands before each answer.
    pub echo: bool,
    /// Server-sent events instead of one body.
    pub stream: bool,
    /// How to stream.
    pub stream_options: Option<StreamOptions>,
    /// Tokens per event after the first one; the server's setting otherwise.
    pub stream_interval: Option<u32>,
    /// How to choose tokens.
    pub sampling: Sampling,
    /// Candidates per generated token: `Some(0)` is the sampled token alone.
    pub logprobs: Option<u32>,
    /// Tokens that stand in place of the likeliest candidates.
    pub logprob_token_ids: Vec<u32>,
    /// Candidates per prompt token.
    pub prompt_logprobs: Option<u32>,
    /// The answer carries prompt and output token ids.
    pub return_token_ids: bool,
    /// Tokens in logprobs read `token_id:N`.
    pub return_tokens_as_token_ids: bool,
    /// Only the last N prompt tokens are used; -1 is the context length.
    pub truncate_prompt_tokens: Option<i64>,
    /// The tokenizer adds its special tokens to the prompt.
    pub add_special_tokens: Option<bool>,
    /// Lower is earlier.
    pub priority: Option<i32>,
    /// Keeps prefix-cache entries of different tenants apart.
    pub cache_salt: Option<String>,
    /// The client's own id of the request.
    pub request_id: Option<String>,
    /// Requests of one session are kept together.
    pub session_id: Option<String>,
    /// Known only to the client: fields that no table knows.
    pub unknown: Vec<String>,
}

impl Options {
    /// Choices per prompt.
    pub fn choices(&self) -> u32 {
        self.n.unwrap_or(1)
    }

    /// Choices generated per prompt.
    pub fn candidates(&self) -> u32 {
        self.best_of.unwrap_or(self.choices())
    }

    /// More is generated than answered.
    pub fn ranks(&self) -> bool {
        self.candidates() > self.choices()
    }

    /// Checks that need more than one field.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        if self.stream_options.is_some() && !self.stream {
            return Err(ApiError::field(
                "stream_options",
                "`stream_options` is only allowed together with `stream: true`.",
            ));
        }
        let stream = self.stream_options.unwrap_or_default();
        if stream.continuous_usage_stats && !stream.include_usage {
            return Err(ApiError::field(
                "stream_options.continuous_usage_stats",
                "`stream_options.continuous_usage_stats` needs `include_usage: true`.",
            ));
        }
        if self.truncate_prompt_tokens == Some(0) {
            return Err(ApiError::field(
                "truncate_prompt_tokens",
                "`truncate_prompt_tokens` must be at least 1, or -1 for as many as fit, not 0.",
            ));
        }
        self.check_nothing()?;
        self.check_logprob_ids()?;
        self.check_best_of()?;
        self.sampling.check()
    }

    /// Whether no token is generated: the prompt alone is answered.
    pub fn prompt_only(&self) -> bool {
        self.sampling.max_tokens == Some(0)
    }

    fn check_nothing(&self) -> Result<(), ApiError> {
        if self.prompt_only() && !self.echo && self.prompt_logprobs.is_none() {
            return Err(ApiError::field(
                "max_tokens",
                "`max_tokens` is 0, which leaves nothing to answer: it needs `echo` or `prompt_logprobs`.",
            ));
        }
        Ok(())
    }

    fn check_logprob_ids(&self) -> Result<(), ApiError> {
        if self.logprob_token_ids.is_empty() || self.logprobs == Some(0) {
            return Ok(());
        }
        Err(ApiError::field(
            "logprob_token_ids",
            "`logprob_token_ids` needs log probabilities without candidates: for chat `logprobs: true` without \
             `top_logprobs`, otherwise `logprobs: 0`.",
        ))
    }

    fn check_best_of(&self) -> Result<(), ApiError> {
        let (best_of, n) = (self.candidates(), self.choices());
        if best_of < n {
            return Err(ApiError::field(
                "best_of",
                format!("`best_of` ({best_of}) must not be below `n` ({n})."),
            ));
        }
        if self.ranks() && self.stream {
            return Err(ApiError::field(
                "best_of",
                "`best_of` above `n` cannot be streamed: which candidates are best shows at their ends.",
            ));
        }
        Ok(())
    }
}

impl Sampling {
    fn check(&self) -> Result<(), ApiError> {
        let (Some(min), Some(max)) = (self.min_tokens, self.max_tokens) else {
            return Ok(());
        };
        if min > max {
            return Err(ApiError::field(
                "min_tokens",
                format!("`min_tokens` ({min}) must not be above `max_tokens` ({max})."),
            ));
        }
        Ok(())
    }
}

/// A request being read: the table's rows store their values here.
#[derive(Debug, Default)]
pub struct Draft {
    /// Fields of both routes.
    pub options: Options,
    /// Chat: a template in place of the model's own.
    pub chat_template: Option<String>,
    /// Chat: the conversation.
    pub messages: Option<Vec<Message>>,
    /// Completions: the prompts.
    pub prompts: Option<Prompt>,
    /// Chat: `logprobs: true`.
    pub want_logprobs: bool,
    /// Chat: `top_logprobs`.
    pub top_logprobs: Option<u32>,
    /// Chat: `max_completion_tokens`, which wins over `max_tokens`.
    pub max_completion_tokens: Option<u32>,
    /// Chat: the template opens the assistant's turn.
    pub add_generation_prompt: Option<bool>,
    /// Chat: the last message is continued.
    pub continue_final_message: bool,
    /// Chat: documents for the template.
    pub documents: Vec<Value>,
    /// Chat: variables for the template.
    pub template_kwargs: Map<String, Value>,
}
