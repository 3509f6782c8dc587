// SPDX-License-Identifier: Apache-2.0

//! One choice of one request: engine outputs go in, deltas of text come out.
//!
//! Detokenizer, stop matcher and bookkeeping are one state machine. How the engine's tokens were grouped into
//! outputs never shows: any grouping gives the same text, the same token count and the same end.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use vllm_engine_client::{
    EngineOutput, FinishReason, Logprobs, OutputStream, StopReason as EngineStop,
};
use vllm_metrics::{Finish, ShardMetrics};
use vllm_openai::response::StopReason;
use vllm_tokenizer::{Detokenizer, StopMatcher, StopStrings};

use crate::admission::Seat;
use crate::errors::Failure;
use crate::generation::timing::Timing;

/// What all choices of a request have in common.
#[derive(Debug, Default)]
pub struct Plan {
    /// How many they are.
    pub choices: usize,
    /// How many choices of each prompt are answered.
    pub answered: usize,
    /// More are generated than answered: the likeliest are.
    pub ranked: bool,
    /// Text of each prompt, when it stands before the answer.
    pub echo: Vec<String>,
    /// Stop strings as given.
    pub stop: Vec<String>,
    /// The same, prepared for matching.
    pub matcher: StopStrings,
    /// Stop strings don't count before this many tokens.
    pub min_tokens: u32,
    /// The stop string or stop token stays in the text.
    pub include_stop: bool,
    /// No token is answered: the engine's one is left out.
    pub prompt_only: bool,
    /// Candidates per token wanted in the answer.
    pub logprobs: Option<u32>,
    /// Tokens in logprobs read `token_id:N`.
    pub tokens_as_ids: bool,
    /// The answer carries token ids.
    pub token_ids: bool,
    /// The answer carries prompt log probabilities.
    pub prompt_logprobs: bool,
}

impl Plan {
    /// An echoed prompt has log probabilities where the answer has them.
    pub fn echoes_logprobs(&self) -> bool {
        !self.echo.is_empty() && self.logprobs.is_some()
    }

    fn wants_prompt_logprobs(&self) -> bool {
        self.prompt_logprobs || self.echoes_logprobs()
    }
}

/// How a choice ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// OpenAI's `finish_reason`.
    pub reason: &'static str,
    /// The stop string or stop token id behind it.
    pub stop: Option<StopReason>,
}

impl Default for Ended {
    /// Whoever never learned of an end was cut off.
    fn default() -> Self {
        Self {
            reason: "abort",
            stop: None,
        }
    }
}

/// Log probabilities of new tokens; only the first `used` rows count.
#[derive(Debug)]
pub struct Rows {
    /// As the engine sent them.
    pub logprobs: Box<Logprobs>,
    /// Rows whose token is part of the answer.
    pub used: usize,
}

/// What a choice produced since it was last asked.
#[derive(Debug, Default)]
pub struct Delta {
    /// The first one of its choice.
    pub first: bool,
    /// New text, final: nothing of it is taken back.
    pub text: String,
    /// New tokens, also those without text yet.
    pub count: u32,
    /// Their ids, when the answer carries them.
    pub ids: Vec<u32>,
    /// Their log probabilities, when asked for.
    pub logprobs: Vec<Rows>,
    /// Log probabilities of the prompt, once, when asked for.
    pub prompt_logprobs: Option<Box<Logprobs>>,
    /// Set on the last delta.
    pub ended: Option<Ended>,
}

impl Delta {
    /// Nothing that a client would see.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
            && self.ids.is_empty()
            && self.logprobs.is_empty()
            && self.prompt_logprobs.is_none()
            && self.ended.is_none()
    }

    /// Takes over what came later.
    pub fn append(&mut self, later: &mut Self) {
        self.first |= later.first;
        self.text.push_str(&later.text);
        self.count += later.count;
        self.ids.append(&mut later.ids);
        self.logprobs.append(&mut later.logprobs);
        if later.prompt_logprobs.is_some() {
            self.prompt_logprobs = later.prompt_logprobs.take();
        }
        if later.ended.is_some() {
            self.ended = later.ended.take();
        }
    }

    /// Empty, its memory kept.
    pub fn clear(&mut self) {
        self.first = false;
        self.text.clear();
        self.count = 0;
        self.ids.clear();
        self.logprobs.clear();
        self.prompt_logprobs = None;
        self.ended = None;
    }
}

/// Memory used while a choice advances, shared by all streams of a shard.
#[derive(Default)]
pub struct Scratch {
    outputs: Vec<EngineOutput>,
    raw: String,
    /// What the choice produced.
    pub delta: Delta,
}

/// What a choice is made of.
pub struct Parts {
    /// Where it stands.
    pub place: Place,
    /// Its seat among all that were let in.
    pub seat: Seat,
    /// What it has in common with the other choices.
    pub plan: Rc<Plan>,
    /// What the engine sends.
    pub stream: OutputStream,
    /// From tokens to text.
    pub detokenizer: Detokenizer,
    /// When things happened.
    pub timing: Timing,
}

/// Where a choice stands in its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// From 0 over all prompts of the request.
    pub index: u32,
    /// Which of the request's prompts it continues.
    pub prompt: usize,
}

/// One choice.
pub struct Choice {
    /// Where it stands.
    pub place: Place,
    /// Tokens so far.
    tokens: u32,
    /// Prompt tokens that the engine had cached.
    cached_tokens: u64,
    /// Whether it had a delta.
    begun: bool,
    plan: Rc<Plan>,
    /// Gone once the choice ended; dropping it earlier aborts in the engine and frees the seat.
    stream: Option<(OutputStream, Seat)>,
    detokenizer: Detokenizer,
    matcher: StopMatcher,
    timing: Timing,
}

impl Choice {
    /// A choice whose engine request was submitted.
    pub fn new(parts: Parts) -> Self {
        let plan = parts.plan;
        let matcher = StopMatcher::new(plan.matcher.clone(), plan.include_stop);
        Self {
            place: parts.place,
            tokens: 0,
            cached_tokens: 0,
            begun: false,
            plan,
            stream: Some((parts.stream, parts.seat)),
            detokenizer: parts.detokenizer,
            matcher,
            timing: parts.timing,
        }
    }

    /// Prompt tokens that the engine had cached; 0 before its first output.
    pub fn cached_tokens(&self) -> u64 {
        self.cached_tokens
    }

    /// Whether the last delta was delivered.
    pub fn is_over(&self) -> bool {
        self.stream.is_none()
    }

    /// Takes what the engine sent; the result is in `scratch.delta`. Pending when there is nothing new.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        cells: &ShardMetrics,
    ) -> Poll<Result<(), Failure>> {
        let Some((stream, seat)) = &mut self.stream else {
            return Poll::Pending;
        };
        let Scratch {
            outputs,
            raw,
            delta,
        } = scratch;
        delta.clear();
        outputs.clear();
        let polled = ready!(stream.poll_outputs(cx, outputs));
        if !outputs.is_empty() {
            seat.start();
        }
        for output in outputs.drain(..) {
            self.take(output, raw, delta, cells)?;
            if delta.ended.is_some() {
                self.end(delta, cells);
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Ready(polled.map_err(Failure::from))
    }

    fn take(
        &mut self,
        mut output: EngineOutput,
        raw: &mut String,
        delta: &mut Delta,
        cells: &ShardMetrics,
    ) -> Result<(), Failure> {
        if output.finish == Some(FinishReason::Error) {
            return Err(Failure::Engine(output.error));
        }
        self.timing.output(&output, cells);
        if let Some(stats) = &output.prefill_stats {
            self.cached_tokens = stats.num_cached_tokens;
        }
        if self.plan.prompt_only {
            leave_out_tokens(&mut output);
        }
        self.begin(&output, delta);
        let matched = self.detokenize(&output, raw, delta);
        let used = matched.map_or(output.new_token_ids.len(), |(used, _)| used);
        self.count(&mut output, used, delta, cells);
        match (matched, output.finish) {
            (Some((_, stop)), _) => {
                delta.ended = Some(Ended {
                    reason: "stop",
                    stop: Some(StopReason::Text(self.plan.stop[stop].clone())),
                });
            }
            (None, Some(finish)) => {
                self.flush(raw, &mut delta.text);
                delta.ended = Some(ended(finish, output.stop_reason));
            }
            (None, None) => {}
        }
        Ok(())
    }

    /// The first output that a client sees something of.
    fn begin(&mut self, output: &EngineOutput, delta: &mut Delta) {
        let silent = output.new_token_ids.is_empty()
            && output.finish.is_none()
            && output.prompt_logprobs.is_none();
        if self.begun || silent {
            return;
        }
        self.begun = true;
        delta.first = true;
        if let Some(text) = self.plan.echo.get(self.place.prompt) {
            delta.text.push_str(text);
        }
    }

    /// Appends text. A stop string that became complete gives the number of tokens up to it and its index.
    fn detokenize(
        &mut self,
        output: &EngineOutput,
        raw: &mut String,
        delta: &mut Delta,
    ) -> Option<(usize, usize)> {
        let ids = output.new_token_ids.as_slice();
        // A stop token is counted, but its text does not show.
        let hidden = output.finish == Some(FinishReason::Stop) && !self.plan.include_stop;
        let shown = &ids[..ids.len() - usize::from(hidden && !ids.is_empty())];
        if self.plan.matcher.is_empty() {
            self.detokenizer.push(shown, &mut delta.text);
            return None;
        }
        // One by one: where a stop string ends must not depend on how many tokens came together.
        for (at, id) in shown.iter().enumerate() {
            raw.clear();
            self.detokenizer.push(std::slice::from_ref(id), raw);
            let tokens = self.tokens + at as u32 + 1;
            if tokens <= self.plan.min_tokens {
                self.matcher.push_unmatched(raw, &mut delta.text);
            } else if let Some(found) = self.matcher.push(raw, &mut delta.text) {
                return Some((at + 1, found.index));
            }
        }
        None
    }

    fn count(
        &mut self,
        output: &mut EngineOutput,
        used: usize,
        delta: &mut Delta,
        cells: &ShardMetrics,
    ) {
        self.tokens += used as u32;
        delta.count += used as u32;
        self.timing.engine(cells).generation_tokens.add(used as u64);
        if self.plan.token_ids {
            delta.ids.extend_from_slice(&output.new_token_ids[..used]);
        }
        if let Some(logprobs) = output
            .logprobs
            .take()
            .filter(|_| self.plan.logprobs.is_some() || self.plan.ranked)
        {
            let used = used.min(logprobs.rows());
            delta.logprobs.push(Rows { logprobs, used });
        }
        if self.plan.wants_prompt_logprobs() && output.prompt_logprobs.is_some() {
            delta.prompt_logprobs = output.prompt_logprobs.take();
        }
    }

    /// The end of the text: whatever was held back is final now.
    fn flush(&mut self, raw: &mut String, text: &mut String) {
        raw.clear();
        self.detokenizer.finish(raw);
        self.matcher.push_unmatched(raw, text);
        self.matcher.finish(text);
    }

    fn end(&mut self, delta: &Delta, cells: &ShardMetrics) {
        let reason = delta.ended.as_ref().map_or("", |ended| ended.reason);
        let finish = Finish::ALL.into_iter().find(|f| f.label() == reason);
        self.timing
            .end(finish.unwrap_or(Finish::Abort), self.tokens, cells);
        self.stream = None;
    }

    /// Ends the choice without a last delta: the client left, or another choice failed.
    pub fn abandon(&mut self, cells: &Arc<ShardMetrics>) {
        if self.stream.take().is_some() {
            self.timing.end(Finish::Abort, self.tokens, cells);
        }
    }
}

/// Engines generate at least one token; who asked for none gets none.
fn leave_out_tokens(output: &mut EngineOutput) {
    output.new_token_ids.clear();
    output.logprobs = None;
    output.stop_reason = None;
    output.finish = output.finish.map(|_| FinishReason::Length);
}

fn ended(finish: FinishReason, stop: Option<EngineStop>) -> Ended {
    let reason = match finish {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::Abort => "abort",
        FinishReason::Error => "error",
        FinishReason::Repetition => "repetition",
    };
    let stop = match stop {
        Some(EngineStop::Token(id)) => u32::try_from(id).ok().map(StopReason::Token),
        Some(EngineStop::Text(text)) => Some(StopReason::Text(text.into())),
        None => None,
    };
    Ended { reason, stop }
}
