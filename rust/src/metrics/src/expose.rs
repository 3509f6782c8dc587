// SPDX-License-Identifier: Apache-2.0

//! Writes `/metrics`: one table of families, each summed over the shards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::buckets::STEP_TOKENS;
use crate::cell::{Counter, Histogram};
use crate::registry::{EngineGauges, Metrics, ProcessCounters, QueueGauges};
use crate::shard::{Finish, RequestMetrics, ShardMetrics};
use crate::text::Page;

type CounterRow = (&'static str, &'static str, fn(&RequestMetrics) -> &Counter);
type HistogramRow = (
    &'static str,
    &'static str,
    fn(&RequestMetrics) -> &Histogram,
);
type GaugeRow = (
    &'static str,
    &'static str,
    &'static str,
    fn(&EngineGauges) -> f64,
);

const COUNTERS: &[CounterRow] = &[
    (
        "vllm:prompt_tokens_total",
        "Number of prefill tokens processed.",
        |m| &m.prompt_tokens,
    ),
    (
        "vllm:prompt_tokens_cached_total",
        "Number of prompt tokens found in the prefix cache.",
        |m| &m.prompt_tokens_cached,
    ),
    (
        "vllm:generation_tokens_total",
        "Number of generation tokens processed.",
        |m| &m.generation_tokens,
    ),
    (
        "vllm:num_preemptions_total",
        "Times the engine put a running request back.",
        |m| &m.preemptions,
    ),
];

const HISTOGRAMS: &[HistogramRow] = &[
    (
        "vllm:time_to_first_token_seconds",
        "Time to first token in seconds.",
        |m| &m.first_token,
    ),
    (
        "vllm:inter_token_latency_seconds",
        "Time between output tokens in seconds.",
        |m| &m.between_tokens,
    ),
    (
        "vllm:request_time_per_output_token_seconds",
        "Mean time per output token of a request in seconds.",
        |m| &m.per_output_token,
    ),
    (
        "vllm:e2e_request_latency_seconds",
        "End to end request latency in seconds.",
        |m| &m.e2e,
    ),
    (
        "vllm:request_queue_time_seconds",
        "Time spent waiting in the engine.",
        |m| &m.queue,
    ),
    (
        "vllm:request_inference_time_seconds",
        "Time from scheduling to the last token.",
        |m| &m.inference,
    ),
    (
        "vllm:request_prefill_time_seconds",
        "Time from scheduling to the first token.",
        |m| &m.prefill,
    ),
    (
        "vllm:request_decode_time_seconds",
        "Time from the first to the last token.",
        |m| &m.decode,
    ),
    (
        "vllm:request_prompt_tokens",
        "Number of prefill tokens of a request.",
        |m| &m.request_prompt_tokens,
    ),
    (
        "vllm:request_generation_tokens",
        "Number of generation tokens of a request.",
        |m| &m.request_generation_tokens,
    ),
    (
        "vllm:request_max_num_generation_tokens",
        "Longest output of a request's choices in tokens.",
        |m| &m.max_generation_tokens,
    ),
    (
        "vllm:request_params_n",
        "The parameter n of a request.",
        |m| &m.params_n,
    ),
    (
        "vllm:request_params_max_tokens",
        "The parameter max_tokens of a request.",
        |m| &m.params_max_tokens,
    ),
    (
        "vllm:request_prefill_kv_computed_tokens",
        "Prompt tokens computed, cached ones left out.",
        |m| &m.prefill_computed,
    ),
];

const GAUGES: &[GaugeRow] = &[
    (
        "vllm:num_requests_running",
        "gauge",
        "Number of requests in the engine's batch.",
        |e| e.running as f64,
    ),
    (
        "vllm:num_requests_waiting",
        "gauge",
        "Number of requests waiting in the engine.",
        |e| e.waiting as f64,
    ),
    (
        "vllm:kv_cache_usage_perc",
        "gauge",
        "KV-cache usage; 1 is full.",
        |e| e.kv_cache_usage,
    ),
    (
        "vllm:prefix_cache_queries_total",
        "counter",
        "Prompt tokens looked up in the prefix cache.",
        |e| e.prefix_cache_queries as f64,
    ),
    (
        "vllm:prefix_cache_hits_total",
        "counter",
        "Prompt tokens found in the prefix cache.",
        |e| e.prefix_cache_hits as f64,
    ),
];

impl Metrics {
    /// The page, in Prometheus' text format. `engines` are in order of their index.
    pub fn expose(&self, engines: &[EngineGauges], queue: QueueGauges) -> String {
        let shards = self
            .shards
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .clone();
        let mut page = Page::default();
        self.gauges(&mut page, engines);
        self.counters(&mut page, &shards);
        self.finished(&mut page, &shards);
        self.histograms(&mut page, &shards);
        self.steps_of_engines(&mut page, engines);
        self.cache_config(&mut page);
        self.http(&mut page, &shards);
        steps(&mut page, &shards);
        admission(&mut page, &shards, queue);
        process(&mut page, &self.process);
        page.finish()
    }

    fn gauges(&self, page: &mut Page, engines: &[EngineGauges]) {
        for (name, kind, help, get) in GAUGES {
            page.family(name, kind, help);
            for (position, engine) in engines.iter().enumerate() {
                let index = self.index(position);
                page.sample(name, &self.labels(&index), get(engine));
            }
        }
    }

    fn counters(&self, page: &mut Page, shards: &[Arc<ShardMetrics>]) {
        for (name, help, get) in COUNTERS {
            page.family(name, "counter", help);
            for (position, index) in self.indices() {
                let total: u64 = shards.iter().map(|s| get(&s.engines[position]).get()).sum();
                page.sample(name, &self.labels(&index), total as f64);
            }
        }
    }

    fn finished(&self, page: &mut Page, shards: &[Arc<ShardMetrics>]) {
        let name = "vllm:request_success_total";
        page.family(name, "counter", "Count of successfully processed requests.");
        for (position, index) in self.indices() {
            for finish in Finish::ALL {
                let total: u64 = shards
                    .iter()
                    .map(|s| s.engines[position].success(finish).get())
                    .sum();
                let [engine, model] = self.labels(&index);
                page.sample(
                    name,
                    &[engine, ("finished_reason", finish.label()), model],
                    total as f64,
                );
            }
        }
    }

    fn histograms(&self, page: &mut Page, shards: &[Arc<ShardMetrics>]) {
        for (name, help, get) in HISTOGRAMS {
            page.family(name, "histogram", help);
            for (position, index) in self.indices() {
                let parts: Vec<_> = shards.iter().map(|s| get(&s.engines[position])).collect();
                page.histogram(name, &self.labels(&index), &parts);
            }
        }
    }

    fn steps_of_engines(&self, page: &mut Page, engines: &[EngineGauges]) {
        let name = "vllm:iteration_tokens_total";
        page.family(
            name,
            "histogram",
            "Tokens of an engine step, prompts and answers together.",
        );
        for (position, engine) in engines.iter().enumerate() {
            let index = self.index(position);
            let steps = &engine.step_tokens;
            page.buckets(
                name,
                &self.labels(&index),
                STEP_TOKENS,
                steps.counts(),
                steps.sum(),
            );
        }
    }

    fn cache_config(&self, page: &mut Page) {
        let name = "vllm:cache_config_info";
        page.family(name, "gauge", "Information of the LLMEngine CacheConfig");
        for (_, index) in self.indices() {
            let own = self
                .info
                .cache_config
                .iter()
                .map(|(name, value)| (*name, value.as_str()));
            let labels: Vec<_> = own.chain([("engine", index.as_str())]).collect();
            page.sample(name, &labels, 1.0);
        }
    }

    /// Handlers that nobody called are left out.
    fn http(&self, page: &mut Page, shards: &[Arc<ShardMetrics>]) {
        const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
        page.family(
            "http_requests_total",
            "counter",
            "Total number of requests by method, status and handler.",
        );
        for (position, handler) in self.handlers.iter().enumerate() {
            for (class, status) in CLASSES.iter().enumerate() {
                let total: u64 = shards
                    .iter()
                    .map(|s| s.http[position].statuses[class].get())
                    .sum();
                let labels = [
                    ("handler", handler.path),
                    ("method", handler.method),
                    ("status", status),
                ];
                if total > 0 {
                    page.sample("http_requests_total", &labels, total as f64);
                }
            }
        }
        page.family(
            "http_request_duration_seconds",
            "histogram",
            "Seconds until an answer's head is ready, by handler.",
        );
        for (position, handler) in self.handlers.iter().enumerate() {
            let parts: Vec<_> = shards.iter().map(|s| &s.http[position].duration).collect();
            if parts
                .iter()
                .any(|part| part.counts().any(|count| count > 0))
            {
                let labels = [("handler", handler.path), ("method", handler.method)];
                page.histogram("http_request_duration_seconds", &labels, &parts);
            }
        }
    }

    fn indices(&self) -> impl Iterator<Item = (usize, String)> + '_ {
        (0..self.info.engines.max(1)).map(|position| (position, self.index(position)))
    }

    fn index(&self, position: usize) -> String {
        (self.info.first_engine as usize + position).to_string()
    }

    fn labels<'a>(&'a self, index: &'a str) -> [(&'static str, &'a str); 2] {
        [("engine", index), ("model_name", &self.info.model_name)]
    }
}

type StepRow = (&'static str, &'static str, fn(&ShardMetrics) -> &Histogram);

const STEPS: &[StepRow] = &[
    (
        "vllm:frontend_render_seconds",
        "Time to render a chat template.",
        |s| &s.render,
    ),
    (
        "vllm:frontend_tokenize_seconds",
        "Time to encode a prompt.",
        |s| &s.tokenize,
    ),
    (
        "vllm:frontend_write_seconds",
        "Time to make text of tokens and write it: a whole answer, or all events of a stream.",
        |s| &s.write,
    ),
];

/// The frontend's own steps and shards.
fn steps(page: &mut Page, shards: &[Arc<ShardMetrics>]) {
    for (name, help, get) in STEPS {
        let parts: Vec<_> = shards.iter().map(|shard| get(shard)).collect();
        page.family(name, "histogram", help);
        page.histogram(name, &[], &parts);
    }
    page.family(
        "vllm:frontend_shards",
        "gauge",
        "Event loops that serve connections.",
    );
    page.sample("vllm:frontend_shards", &[], shards.len() as f64);
}

/// What waits, and what was refused for it.
fn admission(page: &mut Page, shards: &[Arc<ShardMetrics>], queue: QueueGauges) {
    let gauges = [
        (
            "vllm:frontend_choices",
            "Choices let in that have not ended.",
            queue.choices,
        ),
        (
            "vllm:frontend_queued_choices",
            "Choices let in that have no output yet.",
            queue.waiting,
        ),
        (
            "vllm:frontend_queued_tokens",
            "Prompt tokens of choices without output.",
            queue.tokens,
        ),
    ];
    for (name, help, value) in gauges {
        page.family(name, "gauge", help);
        page.sample(name, &[], value as f64);
    }
    let name = "vllm:frontend_rejections_total";
    page.family(
        name,
        "counter",
        "Requests refused because the queue was full, by its limit.",
    );
    let total = |get: fn(&ShardMetrics) -> &Counter| -> f64 {
        shards.iter().map(|s| get(s).get()).sum::<u64>() as f64
    };
    page.sample(
        name,
        &[("limit", "requests")],
        total(|s| &s.rejected_requests),
    );
    page.sample(name, &[("limit", "tokens")], total(|s| &s.rejected_tokens));
}

fn process(page: &mut Page, counters: &ProcessCounters) {
    let rows: [(&str, &str, &AtomicU64); 2] = [
        (
            "vllm:frontend_log_lines_dropped_total",
            "Log lines dropped because nobody read them in time.",
            &counters.log_lines_dropped,
        ),
        (
            "vllm:frontend_connections_refused_total",
            "Connections that could not be accepted or were closed unserved, and requests answered 503, because too many were open or no descriptor was left.",
            &counters.connections_refused,
        ),
    ];
    for (name, help, counter) in rows {
        page.family(name, "counter", help);
        page.sample(name, &[], counter.load(Relaxed) as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Handler, Info};

    fn metrics() -> Arc<Metrics> {
        let info = Info {
            model_name: "m".into(),
            engines: 1,
            context: 10,
            ..Info::default()
        };
        Metrics::new(
            info,
            vec![Handler {
                path: "/health",
                method: "GET",
            }],
            ProcessCounters::default(),
        )
    }

    #[test]
    fn a_page_adds_up_the_shards() {
        let metrics = metrics();
        metrics.process.log_lines_dropped.fetch_add(2, Relaxed);
        for _ in 0..2 {
            let shard = metrics.open_shard();
            shard.engine(0).prompt_tokens.add(3);
            shard.engine(0).success(Finish::Stop).inc();
            shard.handler(0).record(200, 0.2);
        }
        let page = metrics.expose(
            &[EngineGauges {
                running: 4,
                ..EngineGauges::default()
            }],
            QueueGauges {
                waiting: 5,
                ..QueueGauges::default()
            },
        );
        for line in [
            "vllm:prompt_tokens_total{engine=\"0\",model_name=\"m\"} 6.0",
            "vllm:num_requests_running{engine=\"0\",model_name=\"m\"} 4.0",
            "vllm:request_success_total{engine=\"0\",finished_reason=\"stop\",model_name=\"m\"} 2.0",
            "http_requests_total{handler=\"/health\",method=\"GET\",status=\"2xx\"} 2.0",
            "http_request_duration_seconds_bucket{handler=\"/health\",method=\"GET\",le=\"0.5\"} 2.0",
            "vllm:frontend_shards 2.0",
            "vllm:frontend_queued_choices 5.0",
            "vllm:frontend_rejections_total{limit=\"requests\"} 0.0",
            "vllm:frontend_log_lines_dropped_total 2.0",
        ] {
            assert!(page.lines().any(|l| l == line), "{line} is not in\n{page}");
        }
    }

    #[test]
    fn every_family_is_declared_once() {
        let page = metrics().expose(&[EngineGauges::default()], QueueGauges::default());
        let mut names: Vec<_> = page.lines().filter(|l| l.starts_with("# TYPE")).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
