// SPDX-License-Identifier: Apache-2.0

//! What the double pretends to be.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use vllm_engine_client::protocol::ReadyResponse;

use crate::fault::Fault;
use crate::orders::Orders;
use crate::prefix::BLOCK;

/// Options of the mock engine.
#[derive(Debug, Clone, Args)]
pub struct MockOptions {
    /// Handshake address of the frontend or launcher, as `tcp://HOST:PORT` or `ipc://PATH`.
    #[arg(long, required_unless_present_all = ["input", "output"])]
    pub handshake: Option<String>,
    /// Input plane, when there is no handshake.
    #[arg(long, requires = "output", conflicts_with = "handshake")]
    pub input: Option<String>,
    /// Output plane, when there is no handshake.
    #[arg(long, requires = "input", conflicts_with = "handshake")]
    pub output: Option<String>,
    /// Index of the first engine.
    #[arg(long, default_value_t = 0)]
    pub start_index: u32,
    /// Engines in this process.
    #[arg(long, default_value_t = 1)]
    pub engines: u32,
    /// Say in the handshake that the engine runs beside the frontend.
    #[arg(long)]
    pub local: bool,
    /// Duration of a step in milliseconds; 0 never waits.
    #[arg(long, default_value_t = 0.0)]
    pub step_ms: f64,
    /// Time between a request and its first token in milliseconds, beside the step.
    #[arg(long, default_value_t = 0.0)]
    pub latency_ms: f64,
    /// Requests per step at most; others wait.
    #[arg(long, default_value_t = 256)]
    pub max_batch: usize,
    /// Tokens after which a request stops by itself; otherwise its max_tokens.
    #[arg(long)]
    pub output_len: Option<u64>,
    /// Token ids of every answer, repeated as often as needed.
    #[arg(long, value_delimiter = ',', default_values_t = 1000..1064u32)]
    pub tokens: Vec<u32>,
    /// Begin each answer where its prompt's last id points to, so that answers tell whose they are.
    #[arg(long)]
    pub from_prompt: bool,
    /// Log probabilities per token at most, whatever a request asks for.
    #[arg(long, default_value_t = 20)]
    pub max_logprobs: usize,
    /// Tokens of every prompt that the engine says it had cached.
    #[arg(long, default_value_t = 0)]
    pub cached_tokens: u64,
    /// Longest sequence that the engine reports.
    #[arg(long, default_value_t = 131_072)]
    pub max_model_len: u64,
    /// Release that the engine reports.
    #[arg(long, default_value = concat!("0.33.0+mock.", env!("CARGO_PKG_VERSION")))]
    pub engine_version: String,
    /// Count what a prefix cache would have found.
    #[arg(long)]
    pub prefix_cache: bool,
    /// Leave the scheduler's statistics out.
    #[arg(long)]
    pub no_stats: bool,
    /// Something to go wrong, as KIND@STEP; may be repeated.
    #[arg(long)]
    pub fault: Vec<Fault>,
    /// What engines that run are told to do next.
    #[arg(skip)]
    pub orders: Arc<Orders>,
}

impl Default for MockOptions {
    fn default() -> Self {
        Self {
            handshake: None,
            input: None,
            output: None,
            start_index: 0,
            engines: 1,
            local: false,
            step_ms: 0.0,
            latency_ms: 0.0,
            max_batch: 256,
            output_len: None,
            tokens: (1000..1064).collect(),
            from_prompt: false,
            max_logprobs: 20,
            cached_tokens: 0,
            max_model_len: 131_072,
            engine_version: "0.33.0+mock".to_owned(),
            prefix_cache: false,
            no_stats: false,
            fault: Vec::new(),
            orders: Arc::default(),
        }
    }
}

impl MockOptions {
    /// Engines that connect straight to a frontend's input and output planes.
    pub fn direct(input: impl Into<String>, output: impl Into<String>) -> Self {
        Self {
            input: Some(input.into()),
            output: Some(output.into()),
            ..Self::default()
        }
    }

    /// Engines that greet a launcher.
    pub fn handshake(address: impl Into<String>) -> Self {
        Self {
            handshake: Some(address.into()),
            ..Self::default()
        }
    }

    /// Adds a fault, as `KIND@STEP`.
    pub fn with_fault(mut self, fault: &str) -> Self {
        self.fault
            .push(fault.parse().expect("a fault is KIND@STEP"));
        self
    }

    pub(crate) fn step(&self) -> Duration {
        Duration::from_secs_f64(self.step_ms.max(0.0) / 1e3)
    }

    pub(crate) fn latency(&self) -> Duration {
        Duration::from_secs_f64(self.latency_ms.max(0.0) / 1e3)
    }

    pub(crate) fn registration(&self, index: u32) -> ReadyResponse {
        ReadyResponse {
            max_model_len: self.max_model_len,
            num_gpu_blocks: 65_536,
            block_size: BLOCK as u64,
            dtype: "bfloat16".to_owned(),
            vllm_version: self.engine_version.clone(),
            world_size: 1,
            data_parallel_size: 1,
            tensor_parallel_size: 1,
            pipeline_parallel_size: 1,
            decode_context_parallel_size: 1,
            data_parallel_rank: u64::from(index),
            max_num_seqs: self.max_batch as u64,
            max_num_batched_tokens: 8192,
            instance_id: format!("mock-{index}"),
            kv_cache_size_tokens: Some(16 * 65_536),
            kv_cache_max_concurrency: Some(8.0),
            enable_sleep_mode: true,
            ..ReadyResponse::default()
        }
    }
}
