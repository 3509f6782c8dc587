// SPDX-License-Identifier: Apache-2.0

//! Chunks of a stream: an envelope built once per request, the delta escaped into it.

use vllm_openai::Usage;
use vllm_openai::response::CompletionLogprobs;

use super::interval::Interval;
use super::json;
use super::logprobs::Namer;
use crate::choice::{Delta, Place};
use crate::generation::{Facts, Sink};

/// Which route's chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completions,
    /// `/inference/v1/generate`: token ids and no text.
    Generate,
}

impl Route {
    /// What stands before a request's id in its answer.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Chat => "chatcmpl-",
            Self::Completions => "cmpl-",
            Self::Generate => "",
        }
    }

    fn object(self) -> &'static str {
        match self {
            Self::Chat => "chat.completion.chunk",
            Self::Completions => "text_completion",
            Self::Generate => "",
        }
    }

    /// Between the choice's index and the delta's text.
    fn before_text(self) -> &'static [u8] {
        match self {
            Self::Chat => br#","delta":{"content":""#,
            Self::Completions => br#","text":""#,
            Self::Generate => b"",
        }
    }

    /// Closes what `before_text` opened.
    fn after_text(self) -> &'static [u8] {
        match self {
            Self::Chat => br#""}"#,
            Self::Completions => br#"""#,
            Self::Generate => b"",
        }
    }

    /// From the text to the end of a chunk that carries nothing else.
    fn plain_end(self) -> &'static [u8] {
        match self {
            Self::Chat => b"\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n",
            // Every delta of tokens carries their ids: none is plain.
            Self::Generate => b"}]}\n\n",
            Self::Completions => {
                b"\",\"logprobs\":null,\"finish_reason\":null,\"stop_reason\":null}]}\n\n"
            }
        }
    }
}

/// A chunk up to and with `"choices":[`.
fn head(route: Route, facts: &Facts) -> Vec<u8> {
    let mut head = Vec::with_capacity(192);
    if route == Route::Generate {
        head.extend_from_slice(b"data: {\"request_id\":");
        json::string(&facts.id, &mut head);
    } else {
        head.extend_from_slice(b"data: {\"id\":");
        json::string(&facts.id, &mut head);
        head.extend_from_slice(b",\"object\":");
        json::string(route.object(), &mut head);
        head.extend_from_slice(b",\"created\":");
        json::integer(facts.created, &mut head);
        head.extend_from_slice(b",\"model\":");
        json::string(&facts.model, &mut head);
    }
    head.extend_from_slice(b",\"choices\":[");
    head
}

/// Writes the chunks of one request into a buffer.
pub struct ChunkWriter {
    route: Route,
    /// Up to and with `"choices":[`.
    head: Box<[u8]>,
    /// The head and `{"index":0` with the opening of a delta.
    plain_head: Box<[u8]>,
    /// Every chunk carries the usage so far.
    continuous_usage: bool,
    /// Choices whose first chunk was written; where their next token starts, for logprobs.
    started: Vec<Option<usize>>,
    usage: Usage,
    /// Deltas that wait for more tokens.
    interval: Interval,
    /// What to send.
    pub buffer: Vec<u8>,
}

impl ChunkWriter {
    /// A writer for a request.
    pub fn new(route: Route, facts: &Facts, continuous_usage: bool, interval: u32) -> Self {
        let width = facts.plan.choices;
        let head = head(route, facts);
        let mut plain_head = head.clone();
        plain_head.extend_from_slice(b"{\"index\":0");
        plain_head.extend_from_slice(route.before_text());
        let prompt: usize = facts.prompts.iter().map(|prompt| prompt.len()).sum();
        Self {
            route,
            head: head.into(),
            plain_head: plain_head.into(),
            continuous_usage,
            started: vec![None; width],
            usage: Usage::new(prompt as u64, 0),
            interval: Interval::new(interval),
            buffer: Vec::new(),
        }
    }

    /// A delta of text and nothing else: most of all chunks.
    fn plain(&mut self, index: u32, text: &str) {
        let out = &mut self.buffer;
        if index == 0 {
            out.extend_from_slice(&self.plain_head);
        } else {
            out.extend_from_slice(&self.head);
            out.extend_from_slice(b"{\"index\":");
            json::integer(index, out);
            out.extend_from_slice(self.route.before_text());
        }
        json::escape(text, out);
        out.extend_from_slice(self.route.plain_end());
    }

    /// Any delta.
    fn full(&mut self, facts: &Facts, place: Place, delta: &Delta) {
        self.open(place.index);
        let out = &mut self.buffer;
        if self.route != Route::Generate {
            out.extend_from_slice(self.route.before_text());
            json::escape(&delta.text, out);
            out.extend_from_slice(self.route.after_text());
        }
        self.logprobs(facts, place, delta);
        self.finish(delta);
        if self.route == Route::Completions {
            self.prompt_logprobs(facts, delta);
        }
        if facts.plan.token_ids {
            self.token_ids(facts, place, delta);
        }
        self.buffer.extend_from_slice(b"}]");
        if self.route == Route::Generate && place.index == 0 {
            self.prompt_logprobs(facts, delta);
        }
        self.close();
    }

    /// Of the prompt, when they were asked for and came with this delta.
    fn prompt_logprobs(&mut self, facts: &Facts, delta: &Delta) {
        let asked = facts.plan.prompt_logprobs;
        if let Some(logprobs) = delta.prompt_logprobs.as_ref().filter(|_| asked) {
            let namer = Namer::new(&facts.app.model.tokenizer, &facts.plan);
            self.buffer.extend_from_slice(b",\"prompt_logprobs\":");
            json::value(&namer.prompt(logprobs), &mut self.buffer);
        }
    }

    fn open(&mut self, index: u32) {
        self.buffer.extend_from_slice(&self.head);
        self.buffer.extend_from_slice(b"{\"index\":");
        json::integer(index, &mut self.buffer);
    }

    fn logprobs(&mut self, facts: &Facts, place: Place, delta: &Delta) {
        let out = &mut self.buffer;
        out.extend_from_slice(b",\"logprobs\":");
        let echoed = delta
            .prompt_logprobs
            .as_ref()
            .filter(|_| facts.plan.echoes_logprobs());
        let wanted = facts.plan.logprobs.is_some();
        if !wanted || (delta.logprobs.is_empty() && echoed.is_none()) {
            out.extend_from_slice(b"null");
            return;
        }
        let namer = Namer::new(&facts.app.model.tokenizer, &facts.plan);
        match self.route {
            Route::Chat | Route::Generate => {
                out.extend_from_slice(b"{\"content\":");
                namer.write_chat(&delta.logprobs, out);
                out.push(b'}');
            }
            Route::Completions => {
                let offset = self.started[place.index as usize].get_or_insert(0);
                let mut lists = CompletionLogprobs::default();
                if let Some(prompt) = echoed {
                    let first = facts.prompts[place.prompt][0];
                    namer.echo(first, prompt, offset, &mut lists);
                }
                namer.completion(&delta.logprobs, offset, &mut lists);
                json::value(&lists, out);
            }
        }
    }

    fn finish(&mut self, delta: &Delta) {
        let out = &mut self.buffer;
        out.extend_from_slice(b",\"finish_reason\":");
        json::value(&delta.ended.as_ref().map(|ended| ended.reason), out);
        if delta.ended.is_some() || self.route != Route::Chat {
            out.extend_from_slice(b",\"stop_reason\":");
            json::value(
                &delta.ended.as_ref().and_then(|ended| ended.stop.as_ref()),
                out,
            );
        }
    }

    fn token_ids(&mut self, facts: &Facts, place: Place, delta: &Delta) {
        let out = &mut self.buffer;
        out.extend_from_slice(b",\"token_ids\":");
        json::integers(&delta.ids, out);
        if self.route == Route::Completions && delta.first {
            out.extend_from_slice(b",\"prompt_token_ids\":");
            json::integers(&facts.prompts[place.prompt], out);
        }
    }

    /// Ends the chunk behind its choices.
    fn close(&mut self) {
        if self.continuous_usage {
            self.buffer.extend_from_slice(b",\"usage\":");
            json::value(&self.usage, &mut self.buffer);
        }
        self.buffer.extend_from_slice(b"}\n\n");
    }

    /// Chat: the chunk that says who speaks, and the prompt's ids when they were asked for.
    fn role(&mut self, facts: &Facts, place: Place, delta: &Delta) {
        self.open(place.index);
        let out = &mut self.buffer;
        out.extend_from_slice(
            br#","delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null"#,
        );
        out.extend_from_slice(b"}]");
        if place.index == 0 {
            self.prompt_logprobs(facts, delta);
        }
        if facts.plan.token_ids {
            self.buffer.extend_from_slice(b",\"prompt_token_ids\":");
            json::integers(&facts.prompts[place.prompt], &mut self.buffer);
        }
        self.close();
    }

    /// The last chunk of a stream that was asked for its usage.
    pub fn usage(&mut self, usage: Usage) {
        self.buffer.extend_from_slice(&self.head);
        self.buffer.extend_from_slice(b"],\"usage\":");
        json::value(&usage, &mut self.buffer);
        self.buffer.extend_from_slice(b"}\n\n");
    }

    /// The end of a stream.
    pub fn done(&mut self) {
        self.buffer.extend_from_slice(b"data: [DONE]\n\n");
    }

    /// The end of a stream that failed.
    pub fn error(&mut self, error: &vllm_openai::ApiError) {
        self.buffer.extend_from_slice(b"data: ");
        self.buffer.extend_from_slice(error.to_json().as_bytes());
        self.buffer.extend_from_slice(b"\n\n");
    }
}

impl ChunkWriter {
    /// Writes a delta that is due.
    fn write(&mut self, facts: &Facts, place: Place, delta: &Delta) {
        if delta.first {
            self.started[place.index as usize] = Some(0);
            if self.route == Route::Chat {
                self.role(facts, place, delta);
            }
        }
        // The role comes before any token is generated, and its usage says so.
        let completion = self.usage.completion_tokens + u64::from(delta.count);
        self.usage = Usage::new(self.usage.prompt_tokens, completion);
        if self.is_silent(delta) {
            return;
        }
        let plain = delta.ended.is_none()
            && delta.logprobs.is_empty()
            && delta.ids.is_empty()
            && delta.prompt_logprobs.is_none();
        if plain && !self.continuous_usage {
            self.plain(place.index, &delta.text);
        } else {
            self.full(facts, place, delta);
        }
    }

    /// Whether a chunk would show nothing. Chat shows log probabilities of the prompt beside the role.
    fn is_silent(&self, delta: &Delta) -> bool {
        let shown_with_role = self.route == Route::Chat
            && delta.text.is_empty()
            && delta.ids.is_empty()
            && delta.logprobs.is_empty()
            && delta.ended.is_none();
        delta.is_empty() || shown_with_role
    }

    /// Writes what waits for more tokens.
    pub fn flush(&mut self, facts: &Facts) {
        for (place, delta) in self.interval.take() {
            self.write(facts, place, &delta);
        }
    }
}

impl Sink for ChunkWriter {
    fn delta(&mut self, facts: &Facts, place: Place, delta: &mut Delta) {
        if !self.interval.holds(place, delta) {
            self.write(facts, place, delta);
        }
    }
}
