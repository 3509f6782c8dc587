// SPDX-License-Identifier: Apache-2.0

//! Log probabilities as the two routes show them.

use indexmap::IndexMap;
use vllm_engine_client::{Logprobs, TokenLogprob as Entry};
use vllm_openai::response::{
    Candidate, CompletionLogprobs, MIN_LOGPROB, PromptCandidate, PromptLogprobs, TokenLogprob,
};
use vllm_tokenizer::Tokenizer;

use super::json;
use crate::choice::{Plan, Rows};

/// Names tokens in an answer.
pub struct Namer<'a> {
    tokenizer: &'a Tokenizer,
    plan: &'a Plan,
}

impl<'a> Namer<'a> {
    /// Names tokens by a tokenizer, as the request wants them.
    pub fn new(tokenizer: &'a Tokenizer, plan: &'a Plan) -> Self {
        Self { tokenizer, plan }
    }

    fn name(&self, id: u32) -> String {
        if self.plan.tokens_as_ids {
            return format!("token_id:{id}");
        }
        self.tokenizer.token_text(id).into_owned()
    }

    fn candidate(&self, entry: &Entry) -> Candidate {
        let bytes = self
            .tokenizer
            .token_bytes(entry.token_id)
            .unwrap_or_default();
        Candidate {
            token: self.name(entry.token_id),
            logprob: clamp(entry.logprob),
            bytes: bytes.to_vec(),
        }
    }

    /// How many of a row's candidates to show: the engine may send more than were asked for.
    fn top<'e>(&self, row: &'e [Entry]) -> &'e [Entry] {
        let wanted = self.plan.logprobs.unwrap_or(0) as usize;
        let candidates = row.get(1..).unwrap_or_default();
        &candidates[..wanted.min(candidates.len())]
    }

    /// Chat: one entry per token.
    pub fn chat(&self, rows: &[Rows]) -> Vec<TokenLogprob> {
        let each = |row: &[Entry]| {
            Some(TokenLogprob {
                sampled: self.candidate(row.first()?),
                top_logprobs: self
                    .top(row)
                    .iter()
                    .map(|entry| self.candidate(entry))
                    .collect(),
            })
        };
        used(rows).filter_map(each).collect()
    }

    /// Chat, written out: what [`Namer::chat`] serializes to, without a value in between.
    pub fn write_chat(&self, rows: &[Rows], out: &mut Vec<u8>) {
        out.push(b'[');
        let mut first = true;
        for row in used(rows) {
            let Some(sampled) = row.first() else { continue };
            separate(&mut first, out);
            self.write_candidate(sampled, out);
            out.extend_from_slice(b",\"top_logprobs\":[");
            let mut first = true;
            for entry in self.top(row) {
                separate(&mut first, out);
                self.write_candidate(entry, out);
                out.push(b'}');
            }
            out.extend_from_slice(b"]}");
        }
        out.push(b']');
    }

    /// A candidate, its object left open.
    fn write_candidate(&self, entry: &Entry, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"token\":");
        if self.plan.tokens_as_ids {
            out.extend_from_slice(b"\"token_id:");
            json::integer(entry.token_id, out);
            out.push(b'"');
        } else {
            json::string(&self.tokenizer.token_text(entry.token_id), out);
        }
        out.extend_from_slice(b",\"logprob\":");
        json::value(&clamp(entry.logprob), out);
        out.extend_from_slice(b",\"bytes\":");
        let bytes = self.tokenizer.token_bytes(entry.token_id);
        json::integers(bytes.unwrap_or_default(), out);
    }

    /// Completions: appends to the four lists; `offset` is where the next token starts, in characters.
    pub fn completion(&self, rows: &[Rows], offset: &mut usize, out: &mut CompletionLogprobs) {
        used(rows).for_each(|row| self.completion_row(row, offset, out));
    }

    /// Completions: an echoed prompt, whose first token has nothing before it that would make it likely.
    pub fn echo(
        &self,
        first: u32,
        prompt: &Logprobs,
        offset: &mut usize,
        out: &mut CompletionLogprobs,
    ) {
        self.completion_token(first, offset, out);
        out.token_logprobs.push(None);
        out.top_logprobs.push(None);
        (0..prompt.rows()).for_each(|row| self.completion_row(prompt.row(row), offset, out));
    }

    fn completion_row(&self, row: &[Entry], offset: &mut usize, out: &mut CompletionLogprobs) {
        let Some(sampled) = row.first() else { return };
        self.completion_token(sampled.token_id, offset, out);
        out.token_logprobs.push(Some(clamp(sampled.logprob)));
        out.top_logprobs.push(self.by_name(row));
    }

    fn completion_token(&self, id: u32, offset: &mut usize, out: &mut CompletionLogprobs) {
        out.tokens.push(self.name(id));
        out.text_offset.push(*offset);
        *offset += self.tokenizer.token_text(id).chars().count();
    }

    /// The likeliest tokens and the sampled one; `null` when none were asked for.
    fn by_name(&self, row: &[Entry]) -> Option<IndexMap<String, f32>> {
        if self.plan.logprobs == Some(0) {
            return None;
        }
        let entries = row.iter().take(1).chain(self.top(row));
        Some(
            entries
                .map(|entry| (self.name(entry.token_id), clamp(entry.logprob)))
                .collect(),
        )
    }

    /// One entry per prompt position; the first token has nothing before it.
    pub fn prompt(&self, logprobs: &Logprobs) -> PromptLogprobs {
        let rows = (0..logprobs.rows()).map(|row| Some(self.prompt_row(logprobs, row)));
        std::iter::once(None).chain(rows).collect()
    }

    fn prompt_row(&self, logprobs: &Logprobs, row: usize) -> IndexMap<u32, PromptCandidate> {
        let actual = logprobs.ranks.get(row).copied();
        let ranked = logprobs.row(row).iter().enumerate();
        let mut out = IndexMap::new();
        for (column, entry) in ranked {
            let rank = if column == 0 {
                actual
            } else {
                Some(column as u32)
            };
            out.entry(entry.token_id)
                .or_insert_with(|| PromptCandidate {
                    logprob: clamp(entry.logprob),
                    rank,
                    decoded_token: self.name(entry.token_id),
                });
        }
        out
    }
}

/// Mean log probability per token, by which candidates are ranked.
pub fn mean(rows: &[Rows]) -> f64 {
    let sampled = || used(rows).filter_map(|row| row.first());
    let sum: f64 = sampled().map(|entry| f64::from(clamp(entry.logprob))).sum();
    sum / (sampled().count().max(1) as f64)
}

fn used(rows: &[Rows]) -> impl Iterator<Item = &[Entry]> {
    rows.iter()
        .flat_map(|rows| (0..rows.used).map(|row| rows.logprobs.row(row)))
}

fn separate(first: &mut bool, out: &mut Vec<u8>) {
    if !std::mem::take(first) {
        out.push(b',');
    }
}

/// JSON knows neither infinity nor not-a-number.
fn clamp(logprob: f32) -> f32 {
    if logprob.is_nan() {
        MIN_LOGPROB
    } else {
        logprob.clamp(MIN_LOGPROB, 0.0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Tokens of text, of quotes, of a part of a character; the last id has no token.
    fn tokenizer() -> Tokenizer {
        let json = json!({
            "added_tokens": [],
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            "model": {"type": "BPE", "vocab": {"a": 0, "\u{120}the": 1, "\"": 2, "\\": 3, "Ã": 4, "Ã©": 5, "\u{10a}": 6}, "merges": []},
        });
        Tokenizer::from_json(Arc::from(json.to_string())).expect("a tokenizer")
    }

    fn rows() -> impl Strategy<Value = Vec<Rows>> {
        let logprob = prop_oneof![
            any::<f32>(),
            Just(f32::NAN),
            Just(f32::NEG_INFINITY),
            -9.0f32..0.0
        ];
        let entry = (0u32..8, logprob).prop_map(|(token_id, logprob)| Entry { token_id, logprob });
        let table = (1usize..4, 0usize..4).prop_flat_map(move |(width, rows)| {
            let entries = prop::collection::vec(entry.clone(), width * rows);
            (Just(width), Just(rows), entries)
        });
        let rows = table.prop_flat_map(|(width, rows, entries)| {
            (0..=rows).prop_map(move |used| Rows {
                used,
                logprobs: Box::new(Logprobs {
                    width,
                    entries: entries.clone(),
                    ranks: std::iter::repeat_n(1, rows).collect(),
                }),
            })
        });
        prop::collection::vec(rows, 0..3)
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_would_be_serialized(rows in rows(), logprobs in 0u32..4, tokens_as_ids: bool) {
            let plan = Plan { logprobs: Some(logprobs), tokens_as_ids, ..Plan::default() };
            let tokenizer = tokenizer();
            let namer = Namer::new(&tokenizer, &plan);
            let mut written = Vec::new();
            namer.write_chat(&rows, &mut written);
            let expected = serde_json::to_string(&namer.chat(&rows)).expect("serializes");
            prop_assert_eq!(String::from_utf8(written).expect("UTF-8"), expected);
        }
    }
}
