// SPDX-License-Identifier: Apache-2.0

//! Flags of `vllm-rs serve` about HTTP that a supervisor passes as configuration.
//!
//! Owns: their names and help. Must not know: what the server does with the values.

use crate::settings::Settings;

/// How HTTP is served.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct HttpFlags {
    /// Requests that may wait beyond what the engines run at once, counted per choice; -1: no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    max_num_queued_reqs: Option<i64>,
    /// Prompt tokens of requests that may wait; -1: no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    max_num_queued_tokens: Option<i64>,
    /// Refuse request fields that are not known instead of ignoring them
    #[arg(long)]
    strict_fields: bool,
    /// Tokens per event of a stream after the first one, unless a request says so; default: 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    stream_interval: Option<u32>,
    /// Serve /inference/v1/generate: token ids in, token ids out
    #[arg(long)]
    enable_scale_out: bool,
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
        settings.strict_fields = Some(self.strict_fields);
        settings.stream_interval = self.stream_interval;
        settings.enable_scale_out = Some(self.enable_scale_out);
        settings.public_metrics = Some(self.public_metrics);
        settings.enable_request_id_headers = Some(self.enable_request_id_headers);
    }
}
