// SPDX-License-Identifier: Apache-2.0

//! Token in, token out: rendering alone, generating from ids, and what there is to know about the tokenizer.

mod common;

use common::client::{get, post};
use common::{Fixture, Setup};
use serde_json::{Value, json};

const GENERATE: &str = "/inference/v1/generate";

fn scale_out(text: &str) -> Fixture {
    let mut setup = Setup::saying(text);
    setup.config.scale_out = true;
    setup.start()
}

#[test]
fn a_rendered_request_generates_what_the_request_itself_would() {
    let server = scale_out("answer ");
    let chat = json!({"messages": [{"role": "user", "content": "hé"}], "max_tokens": 9, "temperature": 0.5,
        "seed": 3, "stop": ["wer"], "logit_bias": {"7": -1}, "n": 2, "logprobs": true, "top_logprobs": 1,
        "return_token_ids": true});
    let rendered = post(server.address, "/v1/chat/completions/render", &chat).json();
    let tokens = post(
        server.address,
        "/tokenize",
        &json!({"messages": chat["messages"]}),
    )
    .json();
    assert_eq!(rendered["token_ids"], tokens["tokens"], "{rendered}");
    let generated = post(server.address, GENERATE, &rendered);
    assert_eq!(generated.status, 200, "{}", generated.text());
    let (generated, answered) = (
        generated.json(),
        post(server.address, "/v1/chat/completions", &chat).json(),
    );
    for at in 0..2 {
        for name in [
            "index",
            "token_ids",
            "finish_reason",
            "stop_reason",
            "logprobs",
        ] {
            assert_eq!(
                generated["choices"][at][name], answered["choices"][at][name],
                "{name}"
            );
        }
    }
    assert_eq!(generated["usage"], answered["usage"]);
    assert_eq!(generated["request_id"], rendered["request_id"]);
}

#[test]
fn completions_render_to_one_request_per_prompt() {
    let server = Setup::saying("x").start();
    let body = json!({"prompt": ["ab", "c"], "max_tokens": 5});
    let rendered = post(server.address, "/v1/completions/render", &body).json();
    let ids: Vec<_> = rendered
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["token_ids"].clone())
        .collect();
    assert_eq!(ids, [json!([97, 98]), json!([99])]);
    assert_eq!(rendered[0]["sampling_params"]["max_tokens"], 5);
    let wrong = post(
        server.address,
        "/v1/completions/render",
        &json!({"prompt": [9999]}),
    );
    assert_eq!(wrong.status, 400);
    assert_eq!(server.counter(|c| &c.added), 0, "the engine is not asked");
}

/// The choices of a stream, joined.
fn joined(events: &[Value]) -> Vec<(Vec<Value>, Value)> {
    let mut choices = vec![(Vec::new(), Value::Null); 2];
    for choice in events
        .iter()
        .flat_map(|event| event["choices"].as_array())
        .flatten()
    {
        let into = &mut choices[choice["index"].as_u64().expect("an index") as usize];
        into.0
            .extend(choice["token_ids"].as_array().expect("ids").iter().cloned());
        if !choice["finish_reason"].is_null() {
            into.1 = choice["finish_reason"].clone();
        }
    }
    choices
}

#[test]
fn streamed_ids_are_the_whole_ids() {
    let server = scale_out("Grüße ");
    let mut body = json!({"token_ids": [1, 2, 3], "sampling_params": {"max_tokens": 20, "n": 2}});
    let whole = post(server.address, GENERATE, &body).json();
    body["stream"] = true.into();
    body["stream_options"] = json!({"include_usage": true});
    let events = post(server.address, GENERATE, &body).events();
    for (choice, (ids, finish)) in whole["choices"]
        .as_array()
        .expect("choices")
        .iter()
        .zip(joined(&events))
    {
        assert_eq!(
            (&choice["token_ids"], &choice["finish_reason"]),
            (&Value::from(ids), &finish)
        );
    }
    assert_eq!(events.last().expect("usage")["usage"], whole["usage"]);
}

#[test]
fn generating_from_ids_is_closed_unless_opened_and_checks_its_fields() {
    let closed = Setup::saying("x").start();
    let body = json!({"token_ids": [1]});
    let refused = post(closed.address, GENERATE, &body);
    assert_eq!(refused.status, 501);
    assert!(
        refused.text().contains("--enable-scale-out"),
        "{}",
        refused.text()
    );
    let open = scale_out("x");
    for (body, param) in [
        (json!({}), "token_ids"),
        (json!({"token_ids": [9999]}), "token_ids"),
        (
            json!({"token_ids": [1], "sampling_params": {"top_p": 7}}),
            "sampling_params.top_p",
        ),
        (json!({"token_ids": [1], "features": {"a": 1}}), "features"),
    ] {
        let refused = post(open.address, GENERATE, &body);
        assert_eq!(
            (refused.status, refused.json()["error"]["param"].as_str()),
            (400, Some(param)),
            "{}",
            refused.text()
        );
    }
}

#[test]
fn the_tokenizer_tells_about_itself() {
    let server = Setup::saying("x").start();
    let info = get(server.address, "/tokenizer_info").json();
    assert_eq!(info["eos_token"], "<|im_end|>");
    assert_eq!(info["vocab_size"], 258);
    assert!(
        info["chat_template"]
            .as_str()
            .is_some_and(|text| text.contains("<|im_start|>"))
    );
}
