// SPDX-License-Identifier: Apache-2.0

//! A whole answer: the same deltas as a stream's, folded.

use std::task::Poll;
use std::time::Instant;

use vllm_engine_client::Logprobs;
use vllm_openai::response::{
    Answer, AssistantMessage, ChatChoice, ChatLogprobs, CompletionChoice, CompletionLogprobs,
    Generated, GeneratedChoice, PromptLogprobs,
};
use vllm_openai::{ApiError, Usage};

use super::envelope::Route;
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
    ended: Ended,
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
        if let Some(ended) = delta.ended.take() {
            folded.ended = ended;
        }
    }
}

/// Runs a request to its end and writes the route's answer.
pub async fn answer(generation: Generation, route: Route) -> Result<Vec<u8>, ApiError> {
    let (mut generation, folded) = run(generation).await?;
    let began = Instant::now();
    let facts = &generation.facts;
    let writer = Writer {
        facts,
        namer: Namer::new(&facts.app.model.tokenizer, &facts.plan),
        usage: generation.usage(),
    };
    let body = match route {
        Route::Chat => writer.chat(folded),
        Route::Completions => writer.completion(folded),
        Route::Generate => writer.generate(folded),
    };
    generation.wrote(began.elapsed());
    Ok(body)
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

/// Writes the answer of one request.
struct Writer<'a> {
    facts: &'a Facts,
    namer: Namer<'a>,
    usage: Usage,
}

impl<'a> Writer<'a> {
    fn chat(&self, mut folded: Vec<Folded>) -> Vec<u8> {
        let prompt_logprobs = self.prompt_logprobs(&mut folded[0]);
        let prompt_token_ids = self.shows_ids().then(|| &self.facts.prompts[0][..]);
        let choices = numbered(folded, |folded, index| self.chat_choice(folded, index));
        let head = self.head("chat.completion", choices);
        body(&Answer {
            prompt_logprobs,
            prompt_token_ids,
            ..head
        })
    }

    fn completion(&self, folded: Vec<Folded>) -> Vec<u8> {
        let choices = numbered(folded, |folded, index| {
            self.completion_choice(folded, index)
        });
        body(&self.head("text_completion", choices))
    }

    fn generate(&self, mut folded: Vec<Folded>) -> Vec<u8> {
        let prompt_logprobs = self.prompt_logprobs(&mut folded[0]);
        body(&Generated {
            request_id: &self.facts.id,
            choices: numbered(folded, |folded, index| self.generated_choice(folded, index)),
            usage: self.usage,
            prompt_logprobs,
        })
    }

    fn head<C>(&self, object: &'a str, choices: Vec<C>) -> Answer<'a, C> {
        Answer {
            id: &self.facts.id,
            object,
            created: self.facts.created,
            model: &self.facts.model,
            choices,
            usage: self.usage,
            prompt_logprobs: None,
            prompt_token_ids: None,
        }
    }

    fn chat_choice(&self, folded: Folded, index: u32) -> ChatChoice {
        ChatChoice {
            index,
            logprobs: self.chat_logprobs(&folded.rows),
            message: AssistantMessage {
                role: "assistant",
                content: folded.text,
            },
            finish_reason: folded.ended.reason,
            stop_reason: folded.ended.stop,
            token_ids: self.shows_ids().then_some(folded.ids),
        }
    }

    fn completion_choice(&self, mut folded: Folded, index: u32) -> CompletionChoice<'a> {
        let prompt = &self.facts.prompts[folded.prompt][..];
        CompletionChoice {
            index,
            logprobs: self.completion_logprobs(&folded),
            prompt_logprobs: self.prompt_logprobs(&mut folded),
            text: folded.text,
            finish_reason: folded.ended.reason,
            stop_reason: folded.ended.stop,
            token_ids: self.shows_ids().then_some(folded.ids),
            prompt_token_ids: self.shows_ids().then_some(prompt),
        }
    }

    fn generated_choice(&self, folded: Folded, index: u32) -> GeneratedChoice {
        GeneratedChoice {
            index,
            logprobs: self.chat_logprobs(&folded.rows),
            finish_reason: folded.ended.reason,
            stop_reason: folded.ended.stop,
            token_ids: folded.ids,
        }
    }

    fn shows_ids(&self) -> bool {
        self.facts.plan.token_ids
    }

    fn chat_logprobs(&self, rows: &[Rows]) -> Option<ChatLogprobs> {
        self.facts.plan.logprobs.map(|_| ChatLogprobs {
            content: self.namer.chat(rows),
        })
    }

    fn completion_logprobs(&self, folded: &Folded) -> Option<CompletionLogprobs> {
        self.facts.plan.logprobs?;
        let (mut lists, mut offset) = (CompletionLogprobs::default(), 0);
        let echoed = folded.prompt_logprobs.as_deref();
        if let Some(prompt) = echoed.filter(|_| self.facts.plan.echoes_logprobs()) {
            let first = self.facts.prompts[folded.prompt][0];
            self.namer.echo(first, prompt, &mut offset, &mut lists);
        }
        self.namer.completion(&folded.rows, &mut offset, &mut lists);
        Some(lists)
    }

    /// Of the prompt, when they were asked for.
    fn prompt_logprobs(&self, folded: &mut Folded) -> Option<PromptLogprobs> {
        let logprobs = folded.prompt_logprobs.take()?;
        self.facts
            .plan
            .prompt_logprobs
            .then(|| self.namer.prompt(&logprobs))
    }
}

fn numbered<C>(folded: Vec<Folded>, choice: impl Fn(Folded, u32) -> C) -> Vec<C> {
    let each = folded.into_iter().zip(0..);
    each.map(|(folded, index)| choice(folded, index)).collect()
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
