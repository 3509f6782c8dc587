// SPDX-License-Identifier: Apache-2.0

//! What to send, how fast, and where to.

use clap::{Args, ValueEnum};

/// Route that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Endpoint {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completions,
}

/// Whether prompts repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Prompts {
    /// All requests have one prompt.
    Same,
    /// Each request has its own from its first word on, of 64 common words.
    Distinct,
    /// The same of words that are made up, nearly each of them new: nothing that is remembered of words helps.
    Unseen,
}

/// Options of `vllm-rs bench serve`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// The server.
    #[arg(long, default_value = "http://127.0.0.1:8000")]
    pub base_url: String,
    /// Route to measure.
    #[arg(long, value_enum, default_value_t = Endpoint::Chat)]
    pub endpoint: Endpoint,
    /// Model to name; by default the first that the server lists.
    #[arg(long)]
    pub model: Option<String>,
    /// Ask for whole answers instead of streams.
    #[arg(long)]
    pub no_stream: bool,
    /// Requests in flight: exactly this many without --rate, at most this many with it.
    #[arg(long, default_value_t = 1)]
    pub concurrency: usize,
    /// Requests per second at random (Poisson) times instead of back to back.
    #[arg(long)]
    pub rate: Option<f64>,
    /// Requests to measure.
    #[arg(long, default_value_t = 100)]
    pub num_requests: usize,
    /// Requests to send first and not to count.
    #[arg(long, default_value_t = 0)]
    pub warmup: usize,
    /// Words per prompt; most vocabularies have one token for each.
    #[arg(long, default_value_t = 32)]
    pub input_len: usize,
    /// Requests per conversation (chat only): each brings the turns before it, with answers as long as the questions.
    #[arg(long, default_value_t = 1)]
    pub turns: usize,
    /// Tokens per answer (max_tokens; end-of-sequence is ignored).
    #[arg(long, default_value_t = 128)]
    pub output_len: u64,
    /// Whether prompts repeat.
    #[arg(long, value_enum, default_value_t = Prompts::Distinct)]
    pub prompts: Prompts,
    /// Top log probabilities to ask for.
    #[arg(long)]
    pub logprobs: Option<u32>,
    /// Sampling temperature.
    #[arg(long, default_value_t = 0.0)]
    pub temperature: f64,
    /// Seed of prompts and arrival times.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Key for the Authorization header.
    #[arg(long, env = "OPENAI_API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// Process id of the server: reports its CPU time (all threads), and instructions with --perf.
    #[arg(long)]
    pub pid: Option<u32>,
    /// Count the server's user-space instructions with `perf stat`.
    #[arg(long, requires = "pid")]
    pub perf: bool,
    /// Seconds before a request without progress counts as failed.
    #[arg(long, default_value_t = 120.0)]
    pub timeout: f64,
    /// File for the JSON result; `-` prints it instead of the table.
    #[arg(long)]
    pub json: Option<String>,
}
