// SPDX-License-Identifier: Apache-2.0

//! Flags of `vllm-rs serve` about HTTP that a supervisor passes as configuration.
//!
//! Owns: their names and help. Must not know: what the server does with the values.

use std::path::PathBuf;

use crate::environment;
use crate::settings::Settings;

/// One value that holds a list.
#[derive(Debug, Clone)]
struct List(Vec<String>);

fn json_list(text: &str) -> Result<List, String> {
    let list = serde_json::from_str(text).map(List);
    list.map_err(|_| "accepted: a JSON list of texts, as [\"https://example.org\"]".to_owned())
}

/// Seconds, not negative.
pub fn seconds(text: &str) -> Result<f64, String> {
    let seconds = environment::parse_seconds(text).map(|seconds| seconds.as_secs_f64());
    seconds.ok_or_else(|| "accepted: seconds, at least 0".to_owned())
}

/// How HTTP is served.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct HttpFlags {
    /// Requests that may wait beyond what the engines run at once, counted per choice; -1: no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    max_num_queued_reqs: Option<i64>,
    /// Prompt tokens of requests that may wait; -1: no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    max_num_queued_tokens: Option<i64>,
    /// Origins of pages that may use the server from a browser, as a JSON list; ["*"]: all
    #[arg(long, value_name = "JSON", value_parser = json_list)]
    allowed_origins: Option<List>,
    /// Methods that such pages may use, as a JSON list; default: ["*"]
    #[arg(long, value_name = "JSON", value_parser = json_list)]
    allowed_methods: Option<List>,
    /// Headers that such pages may send, as a JSON list; default: ["*"]
    #[arg(long, value_name = "JSON", value_parser = json_list)]
    allowed_headers: Option<List>,
    /// Such pages may send the browser's own credentials
    #[arg(long)]
    allow_credentials: bool,
    /// File with the certificate chain; connections are then encrypted
    #[arg(long, value_name = "PATH")]
    ssl_certfile: Option<PathBuf>,
    /// File with the certificate's private key
    #[arg(long, value_name = "PATH")]
    ssl_keyfile: Option<PathBuf>,
    /// File with the authorities of clients' certificates
    #[arg(long, value_name = "PATH")]
    ssl_ca_certs: Option<PathBuf>,
    /// Clients' certificates: 0 no, 1 optional, 2 required
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..=2))]
    ssl_cert_reqs: Option<i64>,
    /// Refuse request fields that are not known instead of ignoring them
    #[arg(long)]
    strict_fields: bool,
    /// Several engines: the shortest queue alone decides, not where a prompt's beginning was computed
    #[arg(long)]
    no_prefix_affinity: bool,
    /// Tokens per event of a stream after the first one, unless a request says so; default: 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    stream_interval: Option<u32>,
    /// Seconds of silence after which a stream sends a comment, for proxies that close idle connections; 0: never
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    sse_keep_alive_interval: Option<f64>,
    /// Serve /inference/v1/generate: token ids in, token ids out
    #[arg(long)]
    enable_scale_out: bool,
    /// Let requests bring a chat template of their own; only for clients you trust: each starts a process
    #[arg(long)]
    trust_request_chat_template: bool,
    /// Say in the usage how many prompt tokens were found in the prefix cache
    #[arg(long)]
    enable_prompt_tokens_details: bool,
    /// Serve no page at /
    #[arg(long)]
    disable_web_ui: bool,
    /// /metrics needs no key
    #[arg(long)]
    public_metrics: bool,
    /// Answers carry the id in X-Request-Id
    #[arg(long)]
    enable_request_id_headers: bool,
}

impl HttpFlags {
    /// Writes what was given into a configuration.
    pub fn apply(&self, settings: &mut Settings) {
        settings.max_num_queued_reqs = self.max_num_queued_reqs;
        settings.max_num_queued_tokens = self.max_num_queued_tokens;
        settings.allowed_origins = self.allowed_origins.clone().map(|list| list.0);
        settings.allowed_methods = self.allowed_methods.clone().map(|list| list.0);
        settings.allowed_headers = self.allowed_headers.clone().map(|list| list.0);
        settings.allow_credentials = Some(self.allow_credentials);
        settings.ssl_certfile = self.ssl_certfile.clone();
        settings.ssl_keyfile = self.ssl_keyfile.clone();
        settings.ssl_ca_certs = self.ssl_ca_certs.clone();
        settings.ssl_cert_reqs = self.ssl_cert_reqs;
        settings.strict_fields = Some(self.strict_fields);
        settings.no_prefix_affinity = Some(self.no_prefix_affinity);
        settings.stream_interval = self.stream_interval;
        settings.sse_keep_alive_interval = self.sse_keep_alive_interval;
        settings.enable_scale_out = Some(self.enable_scale_out);
        settings.trust_request_chat_template = Some(self.trust_request_chat_template);
        settings.enable_prompt_tokens_details = Some(self.enable_prompt_tokens_details);
        settings.disable_web_ui = Some(self.disable_web_ui);
        settings.public_metrics = Some(self.public_metrics);
        settings.enable_request_id_headers = Some(self.enable_request_id_headers);
    }
}
