// SPDX-License-Identifier: Apache-2.0

//! Counters that an engine attaches to a step. A missing key is a zero, an unknown key is skipped.

use rmpv::Value;

use super::error::DecodeError;
use super::read::Reader;
use super::write::Writer;

type Result<T> = std::result::Result<T, DecodeError>;

/// How much of a prompt was computed and how much came from a cache. Sent with the first output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PrefillStats {
    /// Tokens of the prompt.
    pub num_prompt_tokens: u64,
    /// Tokens computed for it.
    pub num_computed_tokens: u64,
    /// Tokens taken from any cache.
    pub num_cached_tokens: u64,
    /// Of these, from the engine's own prefix cache.
    pub num_local_cached_tokens: u64,
    /// Of these, from an external store.
    pub num_external_cached_tokens: u64,
    /// Tokens newly written to the cache.
    pub num_cache_creation_tokens: u64,
}

impl PrefillStats {
    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        let mut out = Self::default();
        r.entries("prefill_stats", |r, key| {
            let slot = match key {
                b"num_prompt_tokens" => &mut out.num_prompt_tokens,
                b"num_computed_tokens" => &mut out.num_computed_tokens,
                b"num_cached_tokens" => &mut out.num_cached_tokens,
                b"num_local_cached_tokens" => &mut out.num_local_cached_tokens,
                b"num_external_cached_tokens" => &mut out.num_external_cached_tokens,
                b"num_cache_creation_tokens" => &mut out.num_cache_creation_tokens,
                _ => return r.skip("prefill_stats"),
            };
            *slot = r.u64("prefill_stats")?;
            Ok(())
        })?;
        Ok(out)
    }

    /// The bytes of the map, for a caller that writes a message by hand.
    pub fn to_wire(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(192);
        self.encode(&mut w);
        w.into_parts().0
    }

    pub(crate) fn encode(&self, w: &mut Writer) {
        let entries = [
            ("num_prompt_tokens", self.num_prompt_tokens),
            ("num_computed_tokens", self.num_computed_tokens),
            ("num_cached_tokens", self.num_cached_tokens),
            ("num_local_cached_tokens", self.num_local_cached_tokens),
            (
                "num_external_cached_tokens",
                self.num_external_cached_tokens,
            ),
            ("num_cache_creation_tokens", self.num_cache_creation_tokens),
        ];
        encode_counts(w, &entries);
    }
}

fn encode_counts(w: &mut Writer, entries: &[(&str, u64)]) {
    w.map(entries.len());
    for (key, value) in entries {
        w.str(key);
        w.u64(*value);
    }
}

/// Speculative decoding of one request, on its final output.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpecDecodeMetrics {
    /// Draft tokens per step.
    pub num_spec_tokens: u64,
    /// Steps by number of accepted tokens.
    pub histogram: Vec<u64>,
    /// Draft tokens in all.
    pub num_draft_tokens: u64,
    /// Accepted tokens of each step.
    pub per_step_accepted: Vec<u64>,
    /// Drafted tokens of each step.
    pub per_step_drafted: Vec<u64>,
}

impl SpecDecodeMetrics {
    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        const FIELD: &str = "spec_decode_metrics";
        let mut out = Self::default();
        r.entries(FIELD, |r, key| {
            match key {
                b"num_spec_tokens" => out.num_spec_tokens = r.u64(FIELD)?,
                b"num_draft_tokens" => out.num_draft_tokens = r.u64(FIELD)?,
                b"histogram" => out.histogram = counts(r, FIELD)?,
                b"per_step_accepted" => out.per_step_accepted = counts(r, FIELD)?,
                b"per_step_drafted" => out.per_step_drafted = counts(r, FIELD)?,
                _ => r.skip(FIELD)?,
            }
            Ok(())
        })?;
        Ok(out)
    }

    pub(crate) fn encode(&self, w: &mut Writer) {
        w.map(5);
        w.str("num_spec_tokens");
        w.u64(self.num_spec_tokens);
        w.str("histogram");
        w.seq(&self.histogram, |w, n| w.u64(*n));
        w.str("num_draft_tokens");
        w.u64(self.num_draft_tokens);
        w.str("per_step_accepted");
        w.seq(&self.per_step_accepted, |w, n| w.u64(*n));
        w.str("per_step_drafted");
        w.seq(&self.per_step_drafted, |w, n| w.u64(*n));
    }
}

fn counts(r: &mut Reader<'_>, field: &'static str) -> Result<Vec<u64>> {
    if r.nil() {
        Ok(Vec::new())
    } else {
        r.vec(field, |r| r.u64(field))
    }
}

/// Hits of a prefix cache since the last message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// The cache was emptied.
    pub reset: bool,
    /// Requests looked up.
    pub requests: u64,
    /// Tokens looked up.
    pub queries: u64,
    /// Tokens found.
    pub hits: u64,
    /// Requests looked up again after a preemption.
    pub preempted_requests: u64,
    /// Tokens looked up again after a preemption.
    pub preempted_queries: u64,
    /// Tokens found after a preemption.
    pub preempted_hits: u64,
    /// Tokens found, by where they were (`device`, `host`, `p2p`, `disk`, ...).
    pub hits_by_source: Vec<(String, u64)>,
}

impl CacheStats {
    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        const FIELD: &str = "prefix_cache_stats";
        let mut out = Self::default();
        r.entries(FIELD, |r, key| {
            let slot = match key {
                b"reset" => {
                    out.reset = r.bool(FIELD)?;
                    return Ok(());
                }
                b"requests" => &mut out.requests,
                b"queries" => &mut out.queries,
                b"hits" => &mut out.hits,
                b"preempted_requests" => &mut out.preempted_requests,
                b"preempted_queries" => &mut out.preempted_queries,
                b"preempted_hits" => &mut out.preempted_hits,
                b"hits_by_source" => {
                    out.hits_by_source = hits_by_source(r)?;
                    return Ok(());
                }
                _ => return r.skip(FIELD),
            };
            *slot = r.u64(FIELD)?;
            Ok(())
        })?;
        Ok(out)
    }

    fn encode(&self, w: &mut Writer) {
        w.map(8);
        w.str("reset");
        w.bool(self.reset);
        for (key, value) in [
            ("requests", self.requests),
            ("queries", self.queries),
            ("hits", self.hits),
            ("preempted_requests", self.preempted_requests),
            ("preempted_queries", self.preempted_queries),
            ("preempted_hits", self.preempted_hits),
        ] {
            w.str(key);
            w.u64(value);
        }
        w.str("hits_by_source");
        w.map(self.hits_by_source.len());
        for (source, hits) in &self.hits_by_source {
            w.str(source);
            w.u64(*hits);
        }
    }
}

fn hits_by_source(r: &mut Reader<'_>) -> Result<Vec<(String, u64)>> {
    const FIELD: &str = "hits_by_source";
    let count = r.map_len(FIELD)?;
    (0..count)
        .map(|_| Ok((r.string(FIELD)?, r.u64(FIELD)?)))
        .collect()
}

/// Speculative decoding of one step over all requests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpecDecodingStats {
    /// Draft tokens per draft.
    pub num_spec_tokens: u64,
    /// Drafts made.
    pub num_drafts: u64,
    /// Tokens drafted.
    pub num_draft_tokens: u64,
    /// Tokens accepted.
    pub num_accepted_tokens: u64,
    /// Tokens accepted, by position in the draft.
    pub num_accepted_tokens_per_pos: Vec<u64>,
    /// Tokens drafted, by position in the draft.
    pub num_draft_tokens_per_pos: Vec<u64>,
}

impl SpecDecodingStats {
    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        const FIELD: &str = "spec_decoding_stats";
        let mut out = Self::default();
        r.entries(FIELD, |r, key| {
            match key {
                b"num_spec_tokens" => out.num_spec_tokens = r.u64(FIELD)?,
                b"num_drafts" => out.num_drafts = r.u64(FIELD)?,
                b"num_draft_tokens" => out.num_draft_tokens = r.u64(FIELD)?,
                b"num_accepted_tokens" => out.num_accepted_tokens = r.u64(FIELD)?,
                b"num_accepted_tokens_per_pos" => {
                    out.num_accepted_tokens_per_pos = counts(r, FIELD)?;
                }
                b"num_draft_tokens_per_pos" => out.num_draft_tokens_per_pos = counts(r, FIELD)?,
                _ => r.skip(FIELD)?,
            }
            Ok(())
        })?;
        Ok(out)
    }

    fn encode(&self, w: &mut Writer) {
        w.map(6);
        for (key, value) in [
            ("num_spec_tokens", self.num_spec_tokens),
            ("num_drafts", self.num_drafts),
            ("num_draft_tokens", self.num_draft_tokens),
            ("num_accepted_tokens", self.num_accepted_tokens),
        ] {
            w.str(key);
            w.u64(value);
        }
        w.str("num_accepted_tokens_per_pos");
        w.seq(&self.num_accepted_tokens_per_pos, |w, n| w.u64(*n));
        w.str("num_draft_tokens_per_pos");
        w.seq(&self.num_draft_tokens_per_pos, |w, n| w.u64(*n));
    }
}

/// The scheduler's gauges and the counts since its last message.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SchedulerStats {
    /// Requests in the running batch.
    pub num_running_reqs: u64,
    /// Requests waiting to be scheduled.
    pub num_waiting_reqs: u64,
    /// Waiting requests that were passed over in this step.
    pub num_skipped_waiting_reqs: u64,
    /// Steps so far, where several engines run in lockstep.
    pub step_counter: u64,
    /// Wave of data-parallel engines in lockstep.
    pub current_wave: u64,
    /// Share of KV blocks in use, 0 to 1.
    pub kv_cache_usage: f64,
    /// Prefix cache.
    pub prefix_cache_stats: CacheStats,
    /// External prefix store.
    pub connector_prefix_cache_stats: Option<CacheStats>,
    /// Speculative decoding.
    pub spec_decoding_stats: Option<SpecDecodingStats>,
    /// What is empty on most steps, by key: connectors, CUDA graphs, evictions, adapters, the
    /// step's composition.
    pub other: Vec<(&'static str, Value)>,
}

impl SchedulerStats {
    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self> {
        const FIELD: &str = "scheduler_stats";
        let mut out = Self::default();
        r.entries(FIELD, |r, key| {
            match key {
                b"num_running_reqs" => out.num_running_reqs = r.u64(FIELD)?,
                b"num_waiting_reqs" => out.num_waiting_reqs = r.u64(FIELD)?,
                b"num_skipped_waiting_reqs" => out.num_skipped_waiting_reqs = r.u64(FIELD)?,
                b"step_counter" => out.step_counter = r.u64(FIELD)?,
                b"current_wave" => out.current_wave = r.u64(FIELD)?,
                b"kv_cache_usage" => out.kv_cache_usage = r.f64(FIELD)?,
                b"prefix_cache_stats" => {
                    out.prefix_cache_stats = r.nullable(CacheStats::decode)?.unwrap_or_default();
                }
                b"connector_prefix_cache_stats" => {
                    out.connector_prefix_cache_stats = r.nullable(CacheStats::decode)?;
                }
                b"spec_decoding_stats" => {
                    out.spec_decoding_stats = r.nullable(SpecDecodingStats::decode)?;
                }
                key => match OTHER.iter().find(|name| name.as_bytes() == key) {
                    Some(name) => out.decode_other(r, name)?,
                    None => r.skip(FIELD)?,
                },
            }
            Ok(())
        })?;
        Ok(out)
    }

    /// The bytes of the map, for a caller that writes a message by hand.
    pub fn to_wire(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(640);
        self.encode(&mut w);
        w.into_parts().0
    }

    /// Writes all 18 keys: the released Rust client needs the ones that are not optional.
    pub(crate) fn encode(&self, w: &mut Writer) {
        w.map(18);
        for (key, value) in [
            ("num_running_reqs", self.num_running_reqs),
            ("num_waiting_reqs", self.num_waiting_reqs),
            ("num_skipped_waiting_reqs", self.num_skipped_waiting_reqs),
            ("step_counter", self.step_counter),
            ("current_wave", self.current_wave),
        ] {
            w.str(key);
            w.u64(value);
        }
        w.str("kv_cache_usage");
        w.f64(self.kv_cache_usage);
        w.str("prefix_cache_stats");
        self.prefix_cache_stats.encode(w);
        w.str("connector_prefix_cache_stats");
        w.option(self.connector_prefix_cache_stats.as_ref(), |w, stats| {
            stats.encode(w)
        });
        w.str("spec_decoding_stats");
        w.option(self.spec_decoding_stats.as_ref(), |w, stats| {
            stats.encode(w)
        });
        for name in OTHER {
            w.str(name);
            match self.other.iter().find(|(key, _)| *key == name) {
                Some((_, value)) => w.value(value),
                None if MAPS.contains(&name) => w.map(0),
                None if name == "kv_cache_eviction_events" => w.array(0),
                None => w.nil(),
            }
        }
    }

    /// Keeps a rare value when there is one.
    fn decode_other(&mut self, r: &mut Reader<'_>, name: &'static str) -> Result<()> {
        if !r.empty() {
            self.other.push((name, r.value(name)?));
        }
        Ok(())
    }
}

/// Keys of [`SchedulerStats::other`].
const OTHER: [&str; 9] = [
    "num_kv_fetch_reqs_by_stage",
    "iteration_details",
    "kv_cache_eviction_events",
    "kv_connector_stats",
    "ec_connector_stats",
    "waiting_lora_adapters",
    "running_lora_adapters",
    "cudagraph_stats",
    "perf_stats",
];
/// Those of them that are never nil.
const MAPS: [&str; 3] = [
    "num_kv_fetch_reqs_by_stage",
    "waiting_lora_adapters",
    "running_lora_adapters",
];
