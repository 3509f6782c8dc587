// SPDX-License-Identifier: Apache-2.0

//! Streams and whole answers: whatever the engine generates and however its steps cut it, every event is JSON, the
//! deltas make the text of all tokens up to the first stop string, and the whole answer says the same.
//!
//! An input is a byte of switches, a byte that says how stop strings are cut from the rest, a byte for the cuts, and
//! the tokens: the tiny model's tokens are bytes, and 0xFE and 0xFF (never in text) stand for its special tokens.

use std::sync::{Mutex, OnceLock, PoisonError};

use serde_json::{Value, json};
use vllm_engine_client::protocol::{EngineOutput, FinishReason, Logprobs, TokenLogprob};
use vllm_tokenizer::Tokenizer;

use crate::client::Connection;
use crate::engine::{Pair, Script};
use crate::model;

/// Longer inputs only cost time.
const MOST_TOKENS: usize = 300;

struct Bench {
    pair: Pair,
    tokenizer: Tokenizer,
    connection: Mutex<Option<Connection>>,
}

fn bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| Bench {
        pair: Pair::start(),
        tokenizer: Tokenizer::load(&model::files()).expect("a sound tokenizer"),
        connection: Mutex::new(None),
    })
}

/// One request and what the engine generates for it.
struct Case {
    chat: bool,
    include_stop: bool,
    logprobs: bool,
    token_ids: bool,
    usage: bool,
    skip_special: bool,
    stop: Vec<String>,
    /// Tokens of each choice.
    choices: Vec<Vec<u32>>,
    cuts: u8,
}

impl Case {
    fn read(data: &[u8]) -> Option<Self> {
        let (&[switches, stops, cuts], rest) = data.split_first_chunk()?;
        let bit = |at: u8| switches >> at & 1 == 1;
        let ids: Vec<u32> = rest
            .iter()
            .take(MOST_TOKENS)
            .map(|byte| token(*byte))
            .collect();
        let mut choices = vec![ids];
        if bit(6) {
            choices.push(choices[0].iter().rev().copied().collect());
        }
        choices.retain(|ids| !ids.is_empty());
        (!choices.is_empty()).then(|| Self {
            chat: bit(0),
            include_stop: bit(1),
            logprobs: bit(2),
            token_ids: bit(3),
            usage: bit(4),
            skip_special: bit(5),
            stop: stop_strings(stops, rest),
            choices,
            cuts,
        })
    }

    fn path(&self) -> &'static str {
        if self.chat {
            "/v1/chat/completions"
        } else {
            "/v1/completions"
        }
    }

    fn body(&self, stream: bool) -> Value {
        let mut body = json!({
            "max_tokens": MOST_TOKENS,
            "n": self.choices.len(),
            "stop": self.stop,
            "include_stop_str_in_output": self.include_stop,
            "return_token_ids": self.token_ids,
            "skip_special_tokens": self.skip_special,
            "stream": stream,
        });
        if stream && self.usage {
            body["stream_options"] = json!({"include_usage": true, "continuous_usage_stats": true});
        }
        match (self.chat, self.logprobs) {
            (true, true) => body["logprobs"] = true.into(),
            (false, true) => body["logprobs"] = 0.into(),
            _ => {}
        }
        if self.chat {
            body["messages"] = json!([{"role": "user", "content": "x"}]);
        } else {
            body["prompt"] = "x".into();
        }
        body
    }

    /// The engine's outputs for one choice, cut somewhere.
    fn script(&self, ids: &[u32], seed: u64) -> Script {
        let mut random = fastrand::Rng::with_seed(seed);
        let longest = usize::from(self.cuts % 8) + 1;
        let mut script = Script::new();
        let mut rest = ids;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(random.usize(1..=longest.min(rest.len())));
            script.push_back(self.output(piece, after.is_empty()));
            rest = after;
        }
        script
    }

    fn output(&self, ids: &[u32], last: bool) -> EngineOutput {
        let entry = |id: &u32| TokenLogprob {
            token_id: *id,
            logprob: -0.5,
        };
        let logprobs = self.logprobs.then(|| {
            Box::new(Logprobs {
                width: 1,
                entries: ids.iter().map(entry).collect(),
                ranks: ids.iter().map(|_| 1).collect(),
            })
        });
        EngineOutput {
            new_token_ids: ids.into(),
            logprobs,
            finish: last.then_some(FinishReason::Length),
            ..EngineOutput::default()
        }
    }

    /// The text that a choice must have.
    fn expected(&self, ids: &[u32]) -> String {
        let whole = bench().tokenizer.decode(ids, self.skip_special);
        let place = |stop: &String| whole.find(&stop[..]).map(|at| (at + stop.len(), at));
        match self
            .stop
            .iter()
            .filter_map(place)
            .min_by_key(|(end, _)| *end)
        {
            Some((end, _)) if self.include_stop => whole[..end].to_owned(),
            Some((_, at)) => whole[..at].to_owned(),
            None => whole,
        }
    }
}

fn token(byte: u8) -> u32 {
    match byte {
        0xFE => model::START,
        0xFF => model::END,
        byte => byte.into(),
    }
}

/// Up to three stop strings out of the text itself, so that they occur. None holds the replacement character: the
/// bytes behind it are only known to be broken once the text is over.
fn stop_strings(choice: u8, rest: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(rest);
    let chars: Vec<char> = text.chars().collect();
    let mut stops = Vec::new();
    for number in 0..usize::from(choice & 3) {
        let at = (usize::from(choice >> 2) + 7 * number) % chars.len().max(1);
        let end = (at + 1 + number * 2).min(chars.len());
        let stop: String = chars.get(at..end).unwrap_or_default().iter().collect();
        if !stop.is_empty() && !stop.contains('\u{fffd}') {
            stops.push(stop);
        }
    }
    stops
}

/// What a client can make of one choice.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    text: String,
    ids: Vec<Value>,
    logprobs: usize,
    finish: Option<String>,
}

pub(crate) fn check(data: &[u8]) {
    let Some(case) = Case::read(data) else { return };
    let streamed = ask(&case, true);
    let whole = ask(&case, false);
    assert_eq!(streamed, whole, "a stream and a whole answer differ");
    for (seen, ids) in streamed.iter().zip(&case.choices) {
        let expected = case.expected(ids);
        assert_eq!(seen.text, expected, "stop strings {:?}", case.stop);
        assert!(seen.finish.is_some(), "a choice has an end");
        if case.token_ids {
            let given: Vec<Value> = ids.iter().map(|id| (*id).into()).collect();
            assert!(given.starts_with(&seen.ids), "{:?} of {given:?}", seen.ids);
        }
        if case.token_ids && case.logprobs {
            assert_eq!(seen.logprobs, seen.ids.len(), "one row per token");
        }
    }
}

fn ask(case: &Case, stream: bool) -> Vec<Seen> {
    let bench = bench();
    let seed = u64::from(case.cuts) + u64::from(stream);
    bench.pair.tell(
        case.choices
            .iter()
            .zip(seed..)
            .map(|(ids, seed)| case.script(ids, seed)),
    );
    let mut kept = bench
        .connection
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let connection = kept.get_or_insert_with(|| Connection::open(bench.pair.address));
    let body = case.body(stream).to_string();
    connection.send(
        "POST",
        case.path(),
        "Content-Type: application/json\r\n",
        body.as_bytes(),
    );
    let reply = connection.reply();
    assert_eq!(reply.status, 200, "{}: {body}", reply.text());
    let mut seen: Vec<Seen> = case.choices.iter().map(|_| Seen::default()).collect();
    let events = if stream {
        reply.events()
    } else {
        vec![reply.json()]
    };
    for event in &events {
        assert!(event.get("error").is_none(), "{event}");
        event["choices"]
            .as_array()
            .expect("choices")
            .iter()
            .for_each(|choice| add(&mut seen, choice));
    }
    check_usage(case, stream, &events);
    seen
}

/// The last usage of a stream counts every token; earlier ones never more.
fn check_usage(case: &Case, stream: bool, events: &[Value]) {
    if stream && !case.usage {
        return;
    }
    let used = |event: &Value| {
        event["usage"]["completion_tokens"]
            .as_u64()
            .expect("a usage")
    };
    let last = events.last().map(used).expect("an event");
    let most: usize = case.choices.iter().map(Vec::len).sum();
    assert!(events.iter().map(used).is_sorted(), "usage goes down");
    assert!(
        last <= most as u64 && (!case.stop.is_empty() || last == most as u64),
        "{last} of {most} tokens"
    );
}

fn add(seen: &mut [Seen], choice: &Value) {
    let into = &mut seen[choice["index"].as_u64().expect("an index") as usize];
    let text = [
        &choice["text"],
        &choice["delta"]["content"],
        &choice["message"]["content"],
    ];
    into.text.extend(text.into_iter().filter_map(Value::as_str));
    into.ids.extend(
        choice["token_ids"]
            .as_array()
            .into_iter()
            .flatten()
            .cloned(),
    );
    let rows = [
        &choice["logprobs"]["content"],
        &choice["logprobs"]["tokens"],
    ];
    into.logprobs += rows
        .into_iter()
        .filter_map(Value::as_array)
        .map(Vec::len)
        .sum::<usize>();
    if let Some(reason) = choice["finish_reason"].as_str() {
        assert!(into.finish.replace(reason.to_owned()).is_none(), "two ends");
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "plain text",
        "a \u{e9}\u{1f642} \u{4f60}\"\\\n\u{0}",
        "aaaaab aab ab",
        "x",
    ];
    let mut seeds: Vec<Vec<u8>> = (0..16u8)
        .flat_map(|at| {
            let text = texts[usize::from(at) % texts.len()].as_bytes();
            [
                [vec![at.wrapping_mul(37), 0, at], text.to_vec()].concat(),
                [vec![at.wrapping_mul(53), at | 1, at], text.to_vec()].concat(),
            ]
        })
        .collect();
    seeds.push(vec![
        0b0111_1101,
        0,
        3,
        0xF0,
        0x9F,
        0x99,
        0xFE,
        0x82,
        0xFF,
        0xC3,
        b'a',
    ]);
    seeds
}
