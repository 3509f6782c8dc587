// SPDX-License-Identifier: Apache-2.0

//! A whole answer: the same deltas as a stream's, folded.

use std::task::Poll;

use vllm_engine_client::Logprobs;
use vllm_openai::ApiError;
use vllm_openai::response::{
    Answer, AssistantMessage, ChatChoice, ChatLogprobs, CompletionChoice, CompletionLogprobs,
    Generated, GeneratedChoice,
};

use super::json;
use super::logprobs::Namer;
use crate::choice::{Choice, Delta, Ended, Rows};
use crate::generation::{Facts, Generation, Sink};

/// Everything a choice produced.
#[derive(Default)]
struct Folded {
    prompt: usize,
    text: String,
    ids: Vec<u32>,
    rows: Vec<Rows>,
    prompt_logprobs: Option<Box<Logprobs>>,
    ended: Option<Ended>,
}

struct Fold(Vec<Folded>);

impl Sink for Fold {
    fn delta(&mut self, _: &Facts, choice: &Choice, delta: &mut Delta) {
        let folded = &mut self.0[choice.index as usize];
        folded.prompt = choice.prompt;
        folded.text.push_str(&delta.text);
        folded.ids.append(&mut delta.ids);
        folded.rows.append(&mut delta.logprobs);
        if delta.prompt_logprobs.is_some() {
            folded.prompt_logprobs = delta.prompt_logprobs.take();
        }
        if delta.ended.is_some() {
            folded.ended = delta.ended.take();
        }
    }
}

/// Runs a request to its end and writes the chat answer.
pub async fn chat(generation: Generation) -> Result<Vec<u8>, ApiError> {
    let (generation, mut folded) = run(generation).await?;
    let facts = &generation.facts;
    let namer = Namer::new(&facts.app.model.tokenizer, &facts.plan);
    let prompt_logprobs = folded
        .first_mut()
        .and_then(|first| first.prompt_logprobs.take());
    let answer = Answer {
        id: &facts.id,
        object: "chat.completion",
        created: facts.created,
        model: &facts.model,
        choices: folded
            .into_iter()
            .zip(0..)
            .map(|(folded, index)| chat_choice(facts, &namer, folded, index))
            .collect(),
        usage: generation.usage(),
        prompt_logprobs: prompt_logprobs.map(|logprobs| namer.prompt(&logprobs)),
        prompt_token_ids: facts.plan.token_ids.then_some(&facts.prompts[0][..]),
    };
    Ok(body(&answer))
}

/// Runs a request to its end and writes the completions answer.
pub async fn completion(generation: Generation) -> Result<Vec<u8>, ApiError> {
    let (generation, folded) = run(generation).await?;
    let facts = &generation.facts;
    let namer = Namer::new(&facts.app.model.tokenizer, &facts.plan);
    let choices = folded.into_iter().zip(0..);
    let answer = Answer {
        id: &facts.id,
        object: "text_completion",
        created: facts.created,
        model: &facts.model,
        choices: choices
            .map(|(folded, index)| completion_choice(facts, &namer, folded, index))
            .collect(),
        usage: generation.usage(),
        prompt_logprobs: None,
        prompt_token_ids: None,
    };
    Ok(body(&answer))
}

/// Runs a request to its end and writes the answer of token ids.
pub async fn generate(generation: Generation) -> Result<Vec<u8>, ApiError> {
    let (generation, mut folded) = run(generation).await?;
    let facts = &generation.facts;
    let namer = Namer::new(&facts.app.model.tokenizer, &facts.plan);
    let prompt_logprobs = folded
        .first_mut()
        .and_then(|first| first.prompt_logprobs.take());
    let answer = Generated {
        request_id: &facts.id,
        choices: folded
            .into_iter()
            .zip(0..)
            .map(|(folded, index)| generate_choice(facts, &namer, folded, index))
            .collect(),
        usage: generation.usage(),
        prompt_logprobs: prompt_logprobs.map(|logprobs| namer.prompt(&logprobs)),
    };
    Ok(body(&answer))
}

async fn run(mut generation: Generation) -> Result<(Generation, Vec<Folded>), ApiError> {
    let mut fold = Fold((0..generation.width()).map(|_| Folded::default()).collect());
    std::future::poll_fn(|cx| match generation.poll(cx, &mut fold) {
        Poll::Pending => Poll::Pending,
        Poll::Ready(end) => Poll::Ready(end),
    })
    .await?;
    Ok((generation, fold.0))
}

fn chat_choice(facts: &Facts, namer: &Namer<'_>, folded: Folded, index: u32) -> ChatChoice {
    let ended = folded.ended.unwrap_or(Ended {
        reason: "abort",
        stop: None,
    });
    let logprobs = facts.plan.logprobs.map(|_| ChatLogprobs {
        content: namer.chat(&folded.rows),
    });
    ChatChoice {
        index,
        message: AssistantMessage {
            role: "assistant",
            content: folded.text,
        },
        logprobs,
        finish_reason: ended.reason,
        stop_reason: ended.stop,
        token_ids: facts.plan.token_ids.then_some(folded.ids),
    }
}

fn generate_choice(
    facts: &Facts,
    namer: &Namer<'_>,
    folded: Folded,
    index: u32,
) -> GeneratedChoice {
    let ended = folded.ended.unwrap_or(Ended {
        reason: "abort",
        stop: None,
    });
    GeneratedChoice {
        index,
        logprobs: facts.plan.logprobs.map(|_| ChatLogprobs {
            content: namer.chat(&folded.rows),
        }),
        finish_reason: ended.reason,
        stop_reason: ended.stop,
        token_ids: folded.ids,
    }
}

fn completion_choice<'a>(
    facts: &'a Facts,
    namer: &Namer<'_>,
    folded: Folded,
    index: u32,
) -> CompletionChoice<'a> {
    let ended = folded.ended.unwrap_or(Ended {
        reason: "abort",
        stop: None,
    });
    let logprobs = facts.plan.logprobs.map(|_| {
        let mut lists = CompletionLogprobs::default();
        namer.completion(&folded.rows, &mut 0, &mut lists);
        lists
    });
    CompletionChoice {
        index,
        text: folded.text,
        logprobs,
        finish_reason: ended.reason,
        stop_reason: ended.stop,
        prompt_logprobs: folded
            .prompt_logprobs
            .map(|logprobs| namer.prompt(&logprobs)),
        token_ids: facts.plan.token_ids.then_some(folded.ids),
        prompt_token_ids: facts
            .plan
            .token_ids
            .then(|| &facts.prompts[folded.prompt][..]),
    }
}

fn body(answer: &impl serde::Serialize) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    json::value(answer, &mut out);
    out
}
