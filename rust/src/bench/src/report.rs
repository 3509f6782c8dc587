// SPDX-License-Identifier: Apache-2.0

//! Collects times and puts them into a table or JSON.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::args::{BenchArgs, Endpoint, Prompts};
use crate::cost::CpuTime;
use crate::sse::Answer;

/// Times of one kind, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Percentiles {
    /// Values counted.
    pub count: u64,
    /// Mean.
    pub mean: f64,
    /// Half are below.
    pub p50: f64,
    /// 90 % are below.
    pub p90: f64,
    /// 99 % are below.
    pub p99: f64,
    /// Largest.
    pub max: f64,
}

/// What the load cost the server.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cost {
    /// User and system time, in seconds.
    pub cpu_s: f64,
    /// User time in seconds, by clock ticks.
    pub user_s: f64,
    /// System time in seconds, by clock ticks.
    pub system_s: f64,
    /// CPU time per token of the answers, in microseconds.
    pub cpu_us_per_token: f64,
    /// CPU time per request, in microseconds.
    pub cpu_us_per_request: f64,
    /// User-space instructions, where perf can count them.
    pub instructions: Option<u64>,
    /// The same per token of the answers.
    pub instructions_per_token: Option<f64>,
    /// Peak resident memory since the server started, in kB.
    pub peak_rss_kb: Option<u64>,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Model asked for.
    pub model: String,
    /// Route.
    pub endpoint: &'static str,
    /// Answers were streamed.
    pub stream: bool,
    /// All requests had one prompt.
    pub same_prompt: bool,
    /// Requests in flight (at most, with a rate).
    pub concurrency: usize,
    /// Requests per second asked for.
    pub rate: Option<f64>,
    /// Requests that succeeded.
    pub completed: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Failures by reason.
    pub errors: BTreeMap<String, u64>,
    /// Duration in seconds.
    pub wall_s: f64,
    /// Prompt tokens, as the server counts them.
    pub prompt_tokens: u64,
    /// Answer tokens, as the server counts them.
    pub completion_tokens: u64,
    /// Requests per second.
    pub requests_per_s: f64,
    /// Answer tokens per second.
    pub tokens_per_s: f64,
    /// Request to first text, in ms.
    pub ttft_ms: Percentiles,
    /// Text to next text, in ms.
    pub itl_ms: Percentiles,
    /// Request to end, in ms.
    pub e2e_ms: Percentiles,
    /// Cost of the server, when its process id was given.
    pub server: Option<Cost>,
}

/// Raw cost readings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerCost {
    pub(crate) before: CpuTime,
    pub(crate) after: CpuTime,
    pub(crate) instructions: Option<u64>,
    pub(crate) peak_rss_kb: Option<u64>,
}

/// Times in microseconds, three digits kept.
#[derive(Debug, Clone)]
struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        let hour_us = 3_600_000_000;
        Self(Histogram::new_with_bounds(1, hour_us, 3).expect("the bounds are valid"))
    }
}

impl Times {
    fn record(&mut self, time: Duration) {
        self.0.saturating_record(time.as_micros() as u64);
    }

    fn percentiles(&self) -> Percentiles {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1e3;
        if self.0.is_empty() {
            return Percentiles::default();
        }
        Percentiles {
            count: self.0.len(),
            mean: self.0.mean() / 1e3,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: self.0.max() as f64 / 1e3,
        }
    }
}

/// Collects what requests bring.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    completed: u64,
    failed: u64,
    errors: BTreeMap<String, u64>,
    prompt_tokens: u64,
    completion_tokens: u64,
    ttft: Times,
    itl: Times,
    e2e: Times,
}

impl Recorder {
    /// An answer with the times at which its pieces of text came.
    pub(crate) fn answer(&mut self, answer: &Answer, times: &[Duration], elapsed: Duration) {
        self.completed += 1;
        self.prompt_tokens += answer.prompt_tokens;
        self.completion_tokens += answer.completion_tokens;
        self.e2e.record(elapsed);
        times
            .first()
            .into_iter()
            .for_each(|time| self.ttft.record(*time));
        times
            .windows(2)
            .for_each(|pair| self.itl.record(pair[1] - pair[0]));
    }

    pub(crate) fn error(&mut self, reason: String) {
        self.failed += 1;
        *self.errors.entry(reason).or_default() += 1;
    }

    pub(crate) fn report(
        self,
        args: &BenchArgs,
        model: &str,
        wall: Duration,
        cost: Option<ServerCost>,
    ) -> Report {
        let wall_s = wall.as_secs_f64();
        Report {
            model: model.to_owned(),
            endpoint: match args.endpoint {
                Endpoint::Chat => "chat",
                Endpoint::Completions => "completions",
            },
            stream: !args.no_stream,
            same_prompt: args.prompts == Prompts::Same,
            concurrency: args.concurrency,
            rate: args.rate,
            wall_s,
            requests_per_s: self.completed as f64 / wall_s,
            tokens_per_s: self.completion_tokens as f64 / wall_s,
            ttft_ms: self.ttft.percentiles(),
            itl_ms: self.itl.percentiles(),
            e2e_ms: self.e2e.percentiles(),
            server: cost.map(|cost| cost.per(self.completion_tokens, self.completed)),
            completed: self.completed,
            failed: self.failed,
            errors: self.errors,
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.completion_tokens,
        }
    }
}

impl ServerCost {
    fn per(self, tokens: u64, requests: u64) -> Cost {
        let cpu_s = self.after.total - self.before.total;
        let per = |amount: f64, count: u64| amount / count.max(1) as f64;
        Cost {
            cpu_s,
            user_s: self.after.user - self.before.user,
            system_s: self.after.system - self.before.system,
            cpu_us_per_token: per(cpu_s * 1e6, tokens),
            cpu_us_per_request: per(cpu_s * 1e6, requests),
            instructions: self.instructions,
            instructions_per_token: self.instructions.map(|count| per(count as f64, tokens)),
            peak_rss_kb: self.peak_rss_kb,
        }
    }
}

impl Report {
    /// One JSON object.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and strings only")
    }

    /// A table for people.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let mut line = |text: std::fmt::Arguments<'_>| {
            out.write_fmt(text)
                .and_then(|()| out.write_char('\n'))
                .expect("memory");
        };
        let kind = if self.stream {
            "stream"
        } else {
            "whole answers"
        };
        line(format_args!(
            "{} {kind}, model {}, C={}",
            self.endpoint, self.model, self.concurrency
        ));
        line(format_args!(
            "requests   {} completed, {} failed in {:.2} s ({:.1}/s)",
            self.completed, self.failed, self.wall_s, self.requests_per_s
        ));
        line(format_args!(
            "tokens     {} prompt, {} answer ({:.0}/s)",
            self.prompt_tokens, self.completion_tokens, self.tokens_per_s
        ));
        line(format_args!(
            "           {:>9} {:>9} {:>9} {:>9} {:>9}",
            "mean", "p50", "p90", "p99", "max"
        ));
        for (name, p) in [
            ("TTFT ms", &self.ttft_ms),
            ("ITL ms", &self.itl_ms),
            ("E2E ms", &self.e2e_ms),
        ] {
            line(format_args!(
                "{name:<10} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2}",
                p.mean, p.p50, p.p90, p.p99, p.max
            ));
        }
        if let Some(cost) = &self.server {
            line(format_args!(
                "server     {:.2} us/token, {:.1} us/request (user {:.2} s, system {:.2} s)",
                cost.cpu_us_per_token, cost.cpu_us_per_request, cost.user_s, cost.system_s
            ));
            if let Some(count) = cost.instructions_per_token {
                line(format_args!(
                    "           {count:.0} instructions/token (user space)"
                ));
            }
        }
        for (reason, count) in &self.errors {
            line(format_args!("error      {count} x {reason}"));
        }
        out
    }
}
