// SPDX-License-Identifier: Apache-2.0

//! Request bodies: equal seeds give equal bytes.

use serde_json::{Value, json};

use crate::args::{BenchArgs, Endpoint, Prompts};

/// Words that common vocabularies hold as one token with their space.
const WORDS: [&str; 64] = [
    "time",
    "year",
    "people",
    "way",
    "day",
    "man",
    "thing",
    "woman",
    "life",
    "child",
    "world",
    "school",
    "state",
    "family",
    "student",
    "group",
    "country",
    "problem",
    "hand",
    "part",
    "place",
    "case",
    "week",
    "company",
    "system",
    "program",
    "question",
    "work",
    "government",
    "number",
    "night",
    "point",
    "home",
    "water",
    "room",
    "mother",
    "area",
    "money",
    "story",
    "fact",
    "month",
    "lot",
    "right",
    "study",
    "book",
    "eye",
    "job",
    "word",
    "business",
    "issue",
    "side",
    "kind",
    "head",
    "house",
    "service",
    "friend",
    "father",
    "power",
    "hour",
    "game",
    "line",
    "end",
    "member",
    "law",
];

/// Parts of words that are made up.
const SYLLABLES: [&str; 32] = [
    "ba", "ced", "dor", "fel", "gim", "hun", "jos", "kat", "lev", "mip", "nor", "pul", "quo",
    "ras", "sif", "tem", "vun", "wol", "xia", "yet", "zor", "bri", "cla", "dru", "fro", "gle",
    "kno", "pli", "sta", "tro", "whe", "scu",
];

/// Text number `number`: the same for the same seed.
pub(crate) fn text(args: &BenchArgs, number: usize) -> String {
    let own = match args.prompts {
        Prompts::Same => 0,
        Prompts::Distinct | Prompts::Unseen => 1 + number as u64,
    };
    let mut random =
        fastrand::Rng::with_seed(args.seed.wrapping_mul(0x9e37_79b9).wrapping_add(own));
    let mut text = String::with_capacity(args.input_len * 8);
    for at in 0..args.input_len.max(1) {
        if at > 0 {
            text.push(' ');
        }
        match args.prompts {
            Prompts::Unseen => (0..3).for_each(|_| text.push_str(pick(&mut random, &SYLLABLES))),
            Prompts::Same | Prompts::Distinct => text.push_str(pick(&mut random, &WORDS)),
        }
    }
    text
}

fn pick(random: &mut fastrand::Rng, from: &[&'static str]) -> &'static str {
    from[random.usize(..from.len())]
}

/// The turns of a conversation up to the question of request `index`.
fn messages(args: &BenchArgs, index: usize) -> Value {
    let (conversation, turn) = (index / args.turns, index % args.turns);
    let first = conversation * (2 * args.turns - 1);
    let message = |at: usize| {
        let role = if at.is_multiple_of(2) { "user" } else { "assistant" };
        json!({"role": role, "content": text(args, first + at)})
    };
    (0..=2 * turn).map(message).collect()
}

/// The body of request `index`.
pub(crate) fn body(args: &BenchArgs, model: &str, index: usize) -> Vec<u8> {
    let mut body = json!({
        "model": model,
        "max_tokens": args.output_len,
        "temperature": args.temperature,
        "ignore_eos": true,
    });
    match args.endpoint {
        Endpoint::Chat => {
            body["messages"] = messages(args, index);
            if let Some(top) = args.logprobs {
                body["logprobs"] = json!(true);
                body["top_logprobs"] = json!(top);
            }
        }
        Endpoint::Completions => {
            body["prompt"] = json!(text(args, index));
            body["logprobs"] = args.logprobs.map_or(Value::Null, |top| json!(top));
        }
    }
    if !args.no_stream {
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
    }
    body.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: BenchArgs,
    }

    fn args(options: &str) -> BenchArgs {
        Cli::parse_from(std::iter::once("bench").chain(options.split_whitespace())).args
    }

    fn messages_of(args: &BenchArgs, index: usize) -> Vec<Value> {
        let body: Value = serde_json::from_slice(&body(args, "m", index)).expect("JSON");
        body["messages"].as_array().expect("a chat").clone()
    }

    #[test]
    fn each_turn_brings_the_ones_before_it() {
        let args = args("--turns 3 --input-len 4");
        let turns: Vec<_> = (0..6).map(|index| messages_of(&args, index)).collect();
        let lengths: Vec<usize> = turns.iter().map(Vec::len).collect();
        assert_eq!(lengths, [1, 3, 5, 1, 3, 5]);
        for conversation in turns.chunks(3) {
            assert!(conversation[2].starts_with(&conversation[1]));
            assert!(conversation[1].starts_with(&conversation[0]));
            let texts: std::collections::HashSet<&str> = conversation[2]
                .iter()
                .map(|message| message["content"].as_str().expect("a text"))
                .collect();
            assert_eq!(texts.len(), 5);
        }
        assert_ne!(turns[0], turns[3]);
    }

    #[test]
    fn prompts_repeat_or_not_as_asked() {
        for (kind, equal) in [("same", true), ("distinct", false), ("unseen", false)] {
            let args = args(&format!("--prompts {kind} --input-len 50"));
            assert_eq!(text(&args, 0), text(&args, 0));
            assert_eq!(text(&args, 0) == text(&args, 1), equal, "{kind}");
            assert_eq!(text(&args, 0).split(' ').count(), 50);
        }
    }
}
