// SPDX-License-Identifier: Apache-2.0

//! What answers look like. Streamed chunks are written by the server into pre-built envelopes; the
//! parts that both have in common are here.

use indexmap::IndexMap;
use serde::Serialize;

/// Log probabilities below this are not representable in JSON (minus infinity) or say nothing more.
pub const MIN_LOGPROB: f32 = -9999.0;

/// Tokens consumed and produced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Tokens of all prompts.
    pub prompt_tokens: u64,
    /// Both.
    pub total_tokens: u64,
    /// Tokens of all choices.
    pub completion_tokens: u64,
    /// With --enable-prompt-tokens-details.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens_details: Option<PromptTokensDetails>,
}

/// Where the prompts' tokens came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PromptTokensDetails {
    /// Found in the engine's prefix cache.
    pub cached_tokens: u64,
}

impl Usage {
    /// Adds up.
    pub fn new(prompt_tokens: u64, completion_tokens: u64) -> Self {
        Self {
            prompt_tokens,
            total_tokens: prompt_tokens + completion_tokens,
            completion_tokens,
            prompt_tokens_details: None,
        }
    }
}

/// A whole answer of either route; `C` is its choice.
#[derive(Debug, Serialize)]
pub struct Answer<'a, C> {
    /// `chatcmpl-...` or `cmpl-...`.
    pub id: &'a str,
    /// `chat.completion` or `text_completion`.
    pub object: &'a str,
    /// Unix seconds.
    pub created: u64,
    /// Served name of the model.
    pub model: &'a str,
    /// In order of their index.
    pub choices: Vec<C>,
    /// Tokens consumed and produced.
    pub usage: Usage,
    /// Per prompt position (chat).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_logprobs: Option<PromptLogprobs>,
    /// With `return_token_ids` (chat).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_token_ids: Option<&'a [u32]>,
}

/// A choice of a chat answer.
#[derive(Debug, Serialize)]
pub struct ChatChoice {
    /// From 0.
    pub index: u32,
    /// What the assistant says.
    pub message: AssistantMessage,
    /// With `logprobs: true`, else `null`.
    pub logprobs: Option<ChatLogprobs>,
    /// `stop`, `length`, `abort`...
    pub finish_reason: &'static str,
    /// The stop string or stop token id that ended the text.
    pub stop_reason: Option<StopReason>,
    /// With `return_token_ids`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_ids: Option<Vec<u32>>,
}

/// A whole answer of `/inference/v1/generate`.
#[derive(Debug, Serialize)]
pub struct Generated<'a> {
    /// The client's id, or a random one.
    pub request_id: &'a str,
    /// In order of their index.
    pub choices: Vec<GeneratedChoice>,
    /// Tokens consumed and produced.
    pub usage: Usage,
    /// Per prompt position.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_logprobs: Option<PromptLogprobs>,
}

/// A choice made of token ids.
#[derive(Debug, Serialize)]
pub struct GeneratedChoice {
    /// From 0.
    pub index: u32,
    /// With `logprobs`, else `null`.
    pub logprobs: Option<ChatLogprobs>,
    /// `stop`, `length`, `abort`...
    pub finish_reason: &'static str,
    /// The stop string or stop token id that ended the text.
    pub stop_reason: Option<StopReason>,
    /// The generated ids.
    pub token_ids: Vec<u32>,
}

/// The assistant's message.
#[derive(Debug, Serialize)]
pub struct AssistantMessage {
    /// Always `assistant`.
    pub role: &'static str,
    /// The text.
    pub content: String,
}

/// A choice of a completions answer.
#[derive(Debug, Serialize)]
pub struct CompletionChoice<'a> {
    /// From 0 over all prompts.
    pub index: u32,
    /// The generated text.
    pub text: String,
    /// With `logprobs`, else `null`.
    pub logprobs: Option<CompletionLogprobs>,
    /// `stop`, `length`, `abort`...
    pub finish_reason: &'static str,
    /// The stop string or stop token id that ended the text.
    pub stop_reason: Option<StopReason>,
    /// With `prompt_logprobs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_logprobs: Option<PromptLogprobs>,
    /// With `return_token_ids`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_ids: Option<Vec<u32>>,
    /// With `return_token_ids`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_token_ids: Option<&'a [u32]>,
}

/// What ended a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum StopReason {
    /// Id of a stop token.
    Token(u32),
    /// A stop string.
    Text(String),
}

/// Log probabilities of a chat choice.
#[derive(Debug, Default, Serialize)]
pub struct ChatLogprobs {
    /// One per generated token.
    pub content: Vec<TokenLogprob>,
}

/// One generated token of a chat choice.
#[derive(Debug, Serialize)]
pub struct TokenLogprob {
    /// The sampled token.
    #[serde(flatten)]
    pub sampled: Candidate,
    /// The most likely tokens, likeliest first.
    pub top_logprobs: Vec<Candidate>,
}

/// A token and its log probability.
#[derive(Debug, Clone, Serialize)]
pub struct Candidate {
    /// Text, with U+FFFD where the bytes alone are not UTF-8.
    pub token: String,
    /// Natural logarithm, at least [`MIN_LOGPROB`].
    pub logprob: f32,
    /// The exact bytes.
    pub bytes: Vec<u8>,
}

/// Log probabilities of a completions choice, one entry per generated token in each list.
#[derive(Debug, Default, Serialize)]
pub struct CompletionLogprobs {
    /// Where the token starts in the text, in characters.
    pub text_offset: Vec<usize>,
    /// Log probability of the sampled token; `null` for the first token of an echoed prompt.
    pub token_logprobs: Vec<Option<f32>>,
    /// Text of the sampled token.
    pub tokens: Vec<String>,
    /// Text to log probability: the most likely tokens and the sampled one.
    pub top_logprobs: Vec<Option<IndexMap<String, f32>>>,
}

/// One entry per prompt token; the first has none.
pub type PromptLogprobs = Vec<Option<IndexMap<u32, PromptCandidate>>>;

/// A candidate at a prompt position.
#[derive(Debug, Clone, Serialize)]
pub struct PromptCandidate {
    /// Natural logarithm, at least [`MIN_LOGPROB`].
    pub logprob: f32,
    /// 1 is the likeliest.
    pub rank: Option<u32>,
    /// Text of the token.
    pub decoded_token: String,
}

/// `GET /v1/models`.
#[derive(Debug, Serialize)]
pub struct ModelList<'a> {
    /// Always `list`.
    pub object: &'static str,
    /// The served names.
    pub data: Vec<ModelCard<'a>>,
}

/// One served name.
#[derive(Debug, Serialize)]
pub struct ModelCard<'a> {
    /// The served name.
    pub id: &'a str,
    /// Always `model`.
    pub object: &'static str,
    /// Unix seconds of the server's start.
    pub created: u64,
    /// Always `vllm`.
    pub owned_by: &'static str,
    /// The model as given at start.
    pub root: &'a str,
    /// Base model of an adapter.
    pub parent: Option<&'a str>,
    /// Context length in tokens.
    pub max_model_len: u32,
}

/// `POST /tokenize`.
#[derive(Debug, Serialize)]
pub struct Tokenized {
    /// Number of tokens.
    pub count: usize,
    /// Context length in tokens.
    pub max_model_len: u32,
    /// Token ids.
    pub tokens: Vec<u32>,
    /// With `return_token_strs`, else `null`.
    pub token_strs: Option<Vec<String>>,
}

/// `POST /detokenize`.
#[derive(Debug, Serialize)]
pub struct Detokenized {
    /// The text.
    pub prompt: String,
}
