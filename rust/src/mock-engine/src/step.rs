// SPDX-License-Identifier: Apache-2.0

//! Writes a step's message by hand: constant parts are copied, only ids and tokens are encoded.

use std::collections::HashMap;

use bytes::Bytes;
use rmp::encode;
use vllm_engine_client::protocol::{
    CacheStats, EngineCoreOutput, EngineCoreOutputs, EngineOutput, Logprobs, OutputsHeader,
    PrefillStats, SchedulerStats, TokenLogprob,
};

use crate::fault::FaultKind;
use crate::requests::{Request, Requests};

const NIL: u8 = 0xc0;

/// Writes messages of one engine.
pub(crate) struct StepWriter {
    index: u32,
    tokens: Vec<u32>,
    with_stats: bool,
    /// Encoded log probabilities by number of candidates and token.
    logprobs: HashMap<(usize, u32), Vec<u8>>,
}

impl StepWriter {
    pub(crate) fn new(index: u32, tokens: Vec<u32>, with_stats: bool) -> Self {
        let tokens = if tokens.is_empty() { vec![0] } else { tokens };
        Self {
            index,
            tokens,
            with_stats,
            logprobs: HashMap::new(),
        }
    }

    /// One token for every running request. Takes out the ones that end, and counts them.
    pub(crate) fn step(
        &mut self,
        requests: &mut Requests,
        timestamp: f64,
        fault: Option<FaultKind>,
    ) -> (Vec<u8>, u64) {
        let mut out = Vec::with_capacity(640 + 64 * requests.running.len());
        let tenth = fault == Some(FaultKind::Tenth);
        out.push(0x99 + u8::from(tenth));
        uint(&mut out, u64::from(self.index));
        array(&mut out, requests.running.len());
        for (at, request) in requests.running.iter_mut().enumerate() {
            let fault = fault.filter(|_| at == 0);
            self.output(&mut out, request, fault);
            request.produced += 1;
        }
        if fault == Some(FaultKind::Truncated) {
            // Within the outputs, behind the id of the only one.
            out.truncate(out.len() * 3 / 4);
            requests
                .running
                .retain(|request| request.produced < request.limit);
            return (out, 0);
        }
        let before = requests.running.len();
        requests
            .running
            .retain(|request| request.produced < request.limit);
        self.end(&mut out, requests, timestamp, fault);
        if tenth {
            out.push(NIL);
        }
        (out, (before - requests.running.len()) as u64)
    }

    fn output(&mut self, out: &mut Vec<u8>, request: &Request, fault: Option<FaultKind>) {
        let at = (request.first + request.produced) % self.tokens.len() as u64;
        let token = self.tokens[at as usize];
        array(out, 19);
        text(out, &request.id);
        match fault {
            Some(FaultKind::WrongType) => text(out, "no tokens"),
            _ => {
                array(out, 1);
                uint(out, u64::from(token));
            }
        }
        match request.logprobs {
            _ if !request.logprob_ids.is_empty() => {
                let asked = request.logprob_ids.iter().zip(1..);
                let asked = asked.map(|(&token_id, at)| TokenLogprob {
                    token_id,
                    ..candidate(at, token)
                });
                out.extend_from_slice(&one_row(token, asked));
            }
            Some(count) => out.extend_from_slice(self.logprobs(count, token)),
            None => out.push(NIL),
        }
        out.extend_from_slice(&[NIL; 2]);
        out.push(finish(request, fault));
        out.extend_from_slice(&[NIL; 5]);
        match request.produced {
            0 => prefill_stats(out, request),
            _ => out.push(NIL),
        }
        out.extend_from_slice(&[NIL, 0, NIL, NIL, NIL, NIL, NIL]);
    }

    fn logprobs(&mut self, count: usize, token: u32) -> &[u8] {
        self.logprobs
            .entry((count, token))
            .or_insert_with(|| encode_logprobs(count, token))
    }

    fn end(
        &self,
        out: &mut Vec<u8>,
        requests: &mut Requests,
        timestamp: f64,
        fault: Option<FaultKind>,
    ) {
        match fault {
            Some(FaultKind::MissingStats) => {
                map(out, 1);
                text(out, "num_running_reqs");
                uint(out, requests.running.len() as u64);
            }
            _ if self.with_stats => out.extend(stats(requests)),
            _ => out.push(NIL),
        }
        float(out, timestamp);
        out.extend_from_slice(&[NIL; 4]);
        text(out, "default");
    }

    /// Prompt log probabilities of a request, as a message of their own before its first token.
    pub(crate) fn prompt_logprobs(&self, request: &Request, count: usize) -> Vec<Bytes> {
        // The first prompt token has no prediction.
        let rows = request.prompt_tokens.saturating_sub(1) as usize;
        let row = (0..=count).map(|at| candidate(at, self.tokens[0]));
        let entries = std::iter::repeat_n(row, rows).flatten().collect();
        let logprobs = Logprobs {
            width: count + 1,
            entries,
            ranks: std::iter::repeat_n(1, rows).collect(),
        };
        let output = EngineOutput {
            prompt_logprobs: Some(Box::new(logprobs)),
            ..EngineOutput::default()
        };
        let outputs = vec![EngineCoreOutput {
            request_id: request.id.clone(),
            output,
        }];
        EngineCoreOutputs {
            header: self.header(),
            outputs,
        }
        .encode()
    }

    pub(crate) fn header(&self) -> OutputsHeader {
        OutputsHeader {
            engine_index: self.index,
            ..OutputsHeader::default()
        }
    }
}

fn finish(request: &Request, fault: Option<FaultKind>) -> u8 {
    match fault {
        Some(FaultKind::BadFinish) => 9,
        _ if !request.is_last() => NIL,
        _ if request.stops => 0,
        _ => 1,
    }
}

fn candidate(at: usize, token: u32) -> TokenLogprob {
    let token_id = if at == 0 { token } else { at as u32 - 1 };
    // The sampled token is also the likeliest of the top k: rank 1.
    TokenLogprob {
        token_id,
        logprob: -0.25 * at as f32 - 0.125,
    }
}

/// The sampled token, then the top `count`, which begin with it.
fn encode_logprobs(count: usize, token: u32) -> Vec<u8> {
    one_row(token, (0..count).map(|at| candidate(at, token)))
}

/// The sampled token, then these.
fn one_row(token: u32, others: impl Iterator<Item = TokenLogprob>) -> Vec<u8> {
    let entries: Vec<_> = std::iter::once(candidate(0, token)).chain(others).collect();
    Logprobs {
        width: entries.len(),
        entries: entries.into_iter().collect(),
        ranks: std::iter::once(1).collect(),
    }
    .to_wire()
}

/// Look-ups are told once.
fn stats(requests: &mut Requests) -> Vec<u8> {
    let look_ups = CacheStats {
        queries: std::mem::take(&mut requests.prefixes.queries),
        hits: std::mem::take(&mut requests.prefixes.hits),
        ..CacheStats::default()
    };
    SchedulerStats {
        prefix_cache_stats: look_ups,
        num_running_reqs: requests.running.len() as u64,
        num_waiting_reqs: requests.waiting.len() as u64,
        kv_cache_usage: 0.25,
        ..SchedulerStats::default()
    }
    .to_wire()
}

fn prefill_stats(out: &mut Vec<u8>, request: &Request) {
    let (all, cached) = (request.prompt_tokens, request.cached_tokens);
    let stats = PrefillStats {
        num_prompt_tokens: all,
        num_computed_tokens: all - cached,
        num_cached_tokens: cached,
        num_local_cached_tokens: cached,
        num_cache_creation_tokens: all - cached,
        ..PrefillStats::default()
    };
    out.extend(stats.to_wire());
}

fn array(out: &mut Vec<u8>, count: usize) {
    let written = encode::write_array_len(out, count as u32);
    written.expect("writing to memory cannot fail");
}

fn map(out: &mut Vec<u8>, count: usize) {
    encode::write_map_len(out, count as u32).expect("writing to memory cannot fail");
}

fn uint(out: &mut Vec<u8>, value: u64) {
    encode::write_uint(out, value).expect("writing to memory cannot fail");
}

fn float(out: &mut Vec<u8>, value: f64) {
    encode::write_f64(out, value).expect("writing to memory cannot fail");
}

fn text(out: &mut Vec<u8>, value: &str) {
    encode::write_str(out, value).expect("writing to memory cannot fail");
}
