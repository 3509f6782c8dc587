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

/// The prompt of request `index`.
pub(crate) fn prompt(args: &BenchArgs, index: usize) -> String {
    let own = match args.prompts {
        Prompts::Same => 0,
        Prompts::Distinct => 1 + index as u64,
    };
    let mut random =
        fastrand::Rng::with_seed(args.seed.wrapping_mul(0x9e37_79b9).wrapping_add(own));
    let words: Vec<&str> = (0..args.input_len.max(1))
        .map(|_| WORDS[random.usize(..WORDS.len())])
        .collect();
    words.join(" ")
}

/// The body of request `index`.
pub(crate) fn body(args: &BenchArgs, model: &str, index: usize) -> Vec<u8> {
    let prompt = prompt(args, index);
    let mut body = json!({
        "model": model,
        "max_tokens": args.output_len,
        "temperature": args.temperature,
        "ignore_eos": true,
    });
    match args.endpoint {
        Endpoint::Chat => {
            body["messages"] = json!([{"role": "user", "content": prompt}]);
            if let Some(top) = args.logprobs {
                body["logprobs"] = json!(true);
                body["top_logprobs"] = json!(top);
            }
        }
        Endpoint::Completions => {
            body["prompt"] = json!(prompt);
            body["logprobs"] = args.logprobs.map_or(Value::Null, |top| json!(top));
        }
    }
    if !args.no_stream {
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
    }
    body.to_string().into_bytes()
}
