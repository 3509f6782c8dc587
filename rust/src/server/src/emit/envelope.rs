// SPDX-License-Identifier: Apache-2.0

//! Chunks of a stream: an envelope built once per request, the delta escaped into it.

use vllm_openai::Usage;
use vllm_openai::response::CompletionLogprobs;

use super::json;
use super::logprobs::Namer;
use crate::choice::{Choice, Delta};
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
    /// What to send.
    pub buffer: Vec<u8>,
}

impl ChunkWriter {
    /// A writer for a request.
    pub fn new(route: Route, facts: &Facts, width: usize, continuous_usage: bool) -> Self {
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
    fn full(&mut self, facts: &Facts, choice: &Choice, delta: &Delta) {
        self.open(choice.index);
        let out = &mut self.buffer;
        if self.route != Route::Generate {
            out.extend_from_slice(self.route.before_text());
            json::escape(&delta.text, out);
            out.extend_from_slice(self.route.after_text());
        }
        self.logprobs(facts, choice, delta);
        self.finish(delta);
        if facts.plan.token_ids {
            self.token_ids(facts, choice, delta);
        }
        self.close();
    }

    fn open(&mut self, index: u32) {
        self.buffer.extend_from_slice(&self.head);
        self.buffer.extend_from_slice(b"{\"index\":");
        json::integer(index, &mut self.buffer);
    }

    fn logprobs(&mut self, facts: &Facts, choice: &Choice, delta: &Delta) {
        let out = &mut self.buffer;
        out.extend_from_slice(b",\"logprobs\":");
        if delta.logprobs.is_empty() {
            out.extend_from_slice(b"null");
            return;
        }
        let namer = Namer::new(&facts.app.model.tokenizer, &facts.plan);
        match self.route {
            Route::Chat | Route::Generate => {
                out.extend_from_slice(b"{\"content\":");
                json::value(&namer.chat(&delta.logprobs), out);
                out.push(b'}');
            }
            Route::Completions => {
                let offset = self.started[choice.index as usize].get_or_insert(0);
                let mut lists = CompletionLogprobs::default();
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

    fn token_ids(&mut self, facts: &Facts, choice: &Choice, delta: &Delta) {
        let out = &mut self.buffer;
        out.extend_from_slice(b",\"token_ids\":");
        json::integers(&delta.ids, out);
        if self.route == Route::Completions && choice.tokens == delta.count {
            out.extend_from_slice(b",\"prompt_token_ids\":");
            json::integers(&facts.prompts[choice.prompt], out);
        }
    }

    /// Ends the choice and the chunk.
    fn close(&mut self) {
        self.buffer.extend_from_slice(b"}]");
        if self.continuous_usage {
            self.buffer.extend_from_slice(b",\"usage\":");
            json::value(&self.usage, &mut self.buffer);
        }
        self.buffer.extend_from_slice(b"}\n\n");
    }

    /// Chat: the chunk that says who speaks, and the prompt's ids when they were asked for.
    fn role(&mut self, facts: &Facts, choice: &Choice) {
        self.open(choice.index);
        let out = &mut self.buffer;
        out.extend_from_slice(
            br#","delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null"#,
        );
        if facts.plan.token_ids {
            out.extend_from_slice(b"}],\"prompt_token_ids\":");
            json::integers(&facts.prompts[choice.prompt], out);
            out.extend_from_slice(b"}\n\n");
            return;
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

impl Sink for ChunkWriter {
    fn delta(&mut self, facts: &Facts, choice: &Choice, delta: &mut Delta) {
        let completion = self.usage.completion_tokens + u64::from(delta.count);
        self.usage = Usage::new(self.usage.prompt_tokens, completion);
        let started = &mut self.started[choice.index as usize];
        if started.is_none() && (delta.count > 0 || delta.ended.is_some()) {
            *started = Some(0);
            if self.route == Route::Chat {
                self.role(facts, choice);
            }
        }
        if delta.is_empty() {
            return;
        }
        let plain = delta.ended.is_none() && delta.logprobs.is_empty() && delta.ids.is_empty();
        if plain && !self.continuous_usage {
            self.plain(choice.index, &delta.text);
        } else {
            self.full(facts, choice, delta);
        }
    }
}
