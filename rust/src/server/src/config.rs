// SPDX-License-Identifier: Apache-2.0

//! What the server is told at start, checked as a whole before anything is bound.

use std::sync::Arc;
use std::time::Duration;

use vllm_metrics::ProcessCounters;
use vllm_openai::limits::MAX_BODY_BYTES;

use crate::admission::QueueLimits;
use crate::auth::ApiKeys;
use crate::cors::Cors;
use crate::tls::Tls;

/// Connections open at once where descriptors allow it.
pub const MAX_CONNECTIONS: usize = 65_536;

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// Settings of a server.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Keys of which a request must carry one; none means that no key is needed.
    pub api_keys: ApiKeys,
    /// Pages of other origins.
    pub cors: Cors,
    /// Certificates; without them connections are not encrypted.
    pub tls: Option<Arc<Tls>>,
    /// Largest request body in bytes.
    pub max_body_bytes: usize,
    /// Most candidates per token in `logprobs` and `prompt_logprobs`.
    pub max_logprobs: u32,
    /// The engines know the marks of a thought, which `thinking_token_budget` needs.
    pub thinking_budgets: bool,
    /// What may wait before requests are refused.
    pub queue: QueueLimits,
    /// Event loops open at start.
    pub shards: usize,
    /// Event loops opened by load at most.
    pub max_shards: usize,
    /// How long running requests may go on after the signal to stop.
    pub shutdown_timeout: Duration,
    /// How long requests are served on after that signal, while `/ready` says 503.
    pub drain_grace: Duration,
    /// `/inference/v1/generate` is served.
    pub scale_out: bool,
    /// Fields that no table knows are refused.
    pub strict_fields: bool,
    /// Tokens per event of a stream after the first one, unless a request says so.
    pub stream_interval: u32,
    /// Silence of a stream after which it sends a comment; none: never.
    pub sse_keep_alive: Option<Duration>,
    /// Routes for operators during development.
    pub dev_mode: bool,
    /// Requests may bring chat templates of their own, see [`crate::guest`].
    pub trust_templates: bool,
    /// The usage says how many prompt tokens were cached.
    pub prompt_tokens_details: bool,
    /// No page at `/`.
    pub disable_web_ui: bool,
    /// `/metrics` needs no key.
    pub public_metrics: bool,
    /// Answers carry the request's id in `X-Request-Id`.
    pub request_id_headers: bool,
    /// Time for the first byte of a connection, from then on for its first head, and for each part of a body.
    pub read_timeout: Duration,
    /// Time between an answer and the end of the next request's head.
    pub idle_timeout: Duration,
    /// Time for a TLS handshake.
    pub handshake_timeout: Duration,
    /// Connections open at once, over all shards. The last few answer questions about health only.
    pub max_connections: usize,
    /// What the process counts beside its requests.
    pub counters: ProcessCounters,
    /// Gives memory back that the calling thread's allocator keeps for later. Each shard calls it once a second: what
    /// many arrivals at once needed would otherwise be kept until as many come again.
    pub give_back: fn(),
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            api_keys: ApiKeys::default(),
            cors: Cors::default(),
            tls: None,
            max_body_bytes: MAX_BODY_BYTES,
            max_logprobs: 20,
            thinking_budgets: false,
            queue: QueueLimits::default(),
            shards: 1,
            max_shards: 1,
            shutdown_timeout: Duration::ZERO,
            drain_grace: Duration::ZERO,
            scale_out: false,
            strict_fields: false,
            stream_interval: 1,
            sse_keep_alive: None,
            dev_mode: false,
            trust_templates: false,
            prompt_tokens_details: false,
            disable_web_ui: false,
            public_metrics: false,
            request_id_headers: false,
            read_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(60),
            handshake_timeout: Duration::from_secs(10),
            max_connections: MAX_CONNECTIONS,
            counters: ProcessCounters::default(),
            give_back: || {},
        }
    }
}

impl ServerConfig {
    /// Checks what no single flag can check.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.shards == 0 || self.shards > self.max_shards || self.max_shards > 256 {
            let Self {
                shards, max_shards, ..
            } = self;
            return Err(ConfigError(format!(
                "--shards: {shards} at start and {max_shards} at most must be 1 to 256, in this order"
            )));
        }
        if self.max_body_bytes == 0 {
            return Err(ConfigError(
                "--max-request-body-size must be above 0".to_owned(),
            ));
        }
        self.cors.validate()
    }
}
