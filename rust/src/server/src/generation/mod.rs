// SPDX-License-Identifier: Apache-2.0

//! All choices of one request. Dropping it, for whatever reason, aborts in the engine what is not over.

pub mod timing;

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use vllm_openai::response::PromptTokensDetails;
use vllm_openai::{ApiError, Usage};

use crate::app::App;
use crate::choice::{Choice, Delta, Place, Plan};
use crate::errors;

/// Takes deltas in the order in which they become ready.
pub trait Sink {
    /// One delta of one choice.
    fn delta(&mut self, request: &Facts, place: Place, delta: &mut Delta);
}

/// What stays the same while a request runs.
pub struct Facts {
    /// The shard's state.
    pub app: Rc<App>,
    /// Id for logs, as the client sees it.
    pub id: String,
    /// Served name of the model.
    pub model: String,
    /// Unix seconds.
    pub created: u64,
    /// What all choices have in common.
    pub plan: Rc<Plan>,
    /// Token ids of each prompt.
    pub prompts: Vec<Arc<[u32]>>,
}

/// Of the turns behind the first ones, one in so many is timed: reading the clock costs a tenth of what a turn does.
const TIMED: u32 = 16;

/// A running request.
pub struct Generation {
    /// What stays the same.
    pub facts: Facts,
    choices: Vec<Choice>,
    completion_tokens: u64,
    /// Time spent on text and its writing, turns between timed ones as long as the last timed one.
    writing: Duration,
    turns: u32,
    last_turn: Duration,
}

impl Generation {
    /// A request whose choices were submitted.
    pub fn new(facts: Facts, choices: Vec<Choice>) -> Self {
        facts.app.shared.requests.enter();
        Self {
            facts,
            choices,
            completion_tokens: 0,
            writing: Duration::ZERO,
            turns: 0,
            last_turn: Duration::ZERO,
        }
    }

    /// How many choices.
    pub fn width(&self) -> usize {
        self.choices.len()
    }

    /// Hands everything that is ready to the sink. Ready when every choice is over, or one failed.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut impl Sink,
    ) -> Poll<Result<(), ApiError>> {
        let timed = self.turns < TIMED || self.turns.is_multiple_of(TIMED);
        let began = timed.then(Instant::now);
        self.turns = self.turns.wrapping_add(1);
        let polled = self.advance(cx, sink);
        if let Some(began) = began {
            self.last_turn = began.elapsed();
        }
        self.wrote(self.last_turn);
        polled
    }

    /// Adds to the time that the answer's writing took.
    pub fn wrote(&mut self, time: Duration) {
        self.writing += time;
    }

    fn advance(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut impl Sink,
    ) -> Poll<Result<(), ApiError>> {
        let app = self.facts.app.clone();
        if app.connections.cut() {
            return Poll::Ready(Err(errors::shutting_down()));
        }
        let mut scratch = app.scratch.borrow_mut();
        let mut over = true;
        for choice in &mut self.choices {
            while let Poll::Ready(polled) = choice.poll(cx, &mut scratch, &app.cells) {
                self.completion_tokens += u64::from(scratch.delta.count);
                sink.delta(&self.facts, choice.place, &mut scratch.delta);
                if let Err(failure) = polled {
                    return Poll::Ready(Err(failure.into_error(&self.facts.id)));
                }
            }
            over &= choice.is_over();
        }
        if over {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    /// Tokens so far.
    pub fn usage(&self) -> Usage {
        let prompt: usize = self.facts.prompts.iter().map(|prompt| prompt.len()).sum();
        let shows = self.facts.app.shared.config.prompt_tokens_details;
        Usage {
            prompt_tokens_details: shows.then(|| self.details()),
            ..Usage::new(prompt as u64, self.completion_tokens)
        }
    }

    /// A prompt counts once, as its first choice found it: the others find what that one computed.
    fn details(&self) -> PromptTokensDetails {
        let per_prompt = self.choices.len() / self.facts.prompts.len();
        let firsts = self.choices.iter().step_by(per_prompt);
        PromptTokensDetails {
            cached_tokens: firsts.map(Choice::cached_tokens).sum(),
        }
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        for choice in &mut self.choices {
            choice.abandon(&self.facts.app.cells);
        }
        let seconds = self.writing.as_secs_f64();
        self.facts.app.cells.write.observe(seconds);
        self.facts.app.shared.requests.leave();
    }
}
