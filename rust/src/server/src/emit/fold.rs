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
use super::logprobs::{self, Namer};
use crate::choice::{Delta, Ended, Place, Plan, Rows};
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
    fn delta(&mut self, _: &Facts, place: Place, delta: &mut Delta) {
        let folded = &mut self.0[place.index as usize];
        folded.prompt = place.prompt;
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
    let answered = best(&generation.facts.plan, fold.0);
    Ok((generation, answered))
}

/// The likeliest candidates of each prompt, the likeliest first.
fn best(plan: &Plan, candidates: Vec<Folded>) -> Vec<Folded> {
    if !plan.ranked {
        return candidates;
    }
    let mut ranked: Vec<_> = candidates
        .into_iter()
        .map(|folded| (logprobs::mean(&folded.rows), folded))
        .collect();
    // Stable: equally likely ones stay in order.
    ranked.sort_by(|(a, x), (b, y)| x.prompt.cmp(&y.prompt).then(b.total_cmp(a)));
    let mut left = plan.answered;
    let mut prompt = 0;
    ranked.retain(|(_, folded)| {
        if folded.prompt != prompt {
            (prompt, left) = (folded.prompt, plan.answered);
        }
        let keep = left > 0;
        left = left.saturating_sub(1);
        keep
    });
    ranked.into_iter().map(|(_, folded)| folded).collect()
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
        let (mut lists, mut offset) = (CompletionLogprobs::default(), 0);
        let echoed = folded.prompt_logprobs.as_deref();
        if let Some(prompt) = echoed.filter(|_| facts.plan.echoes_logprobs()) {
            let first = facts.prompts[folded.prompt][0];
            namer.echo(first, prompt, &mut offset, &mut lists);
        }
        namer.completion(&folded.rows, &mut offset, &mut lists);
        lists
    });
    let asked = facts.plan.prompt_logprobs;
    CompletionChoice {
        index,
        text: folded.text,
        logprobs,
        finish_reason: ended.reason,
        stop_reason: ended.stop,
        prompt_logprobs: folded
            .prompt_logprobs
            .filter(|_| asked)
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

#[cfg(test)]
mod tests {
    use vllm_engine_client::TokenLogprob;

    use super::*;

    fn candidate(prompt: usize, text: &str, logprobs: &[f32]) -> Folded {
        let entry = |&logprob: &f32| TokenLogprob {
            token_id: 0,
            logprob,
        };
        let rows = Rows {
            used: logprobs.len(),
            logprobs: Box::new(Logprobs {
                width: 1,
                entries: logprobs.iter().map(entry).collect(),
                ranks: std::iter::repeat_n(1, logprobs.len()).collect(),
            }),
        };
        Folded {
            prompt,
            text: text.to_owned(),
            rows: vec![rows],
            ..Folded::default()
        }
    }

    #[test]
    fn the_likeliest_per_token_of_each_prompt_stay() {
        let plan = Plan {
            ranked: true,
            answered: 2,
            ..Plan::default()
        };
        let candidates = vec![
            candidate(0, "long and likely", &[-0.1, -0.1, -0.1, -0.1]),
            candidate(0, "unlikely", &[-9.0]),
            candidate(0, "short", &[-0.3]),
            candidate(1, "second", &[-0.5]),
            candidate(1, "first", &[-0.4]),
            candidate(1, "third", &[f32::NEG_INFINITY]),
        ];
        let texts: Vec<_> = best(&plan, candidates)
            .into_iter()
            .map(|folded| folded.text)
            .collect();
        assert_eq!(texts, ["long and likely", "short", "first", "second"]);
    }
}
