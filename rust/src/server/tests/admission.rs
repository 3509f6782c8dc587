// SPDX-License-Identifier: Apache-2.0

//! A queue with a size: what is too much is refused at once, and every seat comes back.

mod common;

use common::client::{Connection, get, post};
use common::{Fixture, Setup, eventually};
use serde_json::{Value, json};
use vllm_server::QueueLimits;

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";

/// An engine that runs two requests at once and takes its time.
fn small(requests: u64, tokens: u64) -> Fixture {
    let mut setup = Setup::saying("x").step_ms(20.0);
    setup.engine.max_batch = 2;
    setup.config.queue = QueueLimits { requests, tokens };
    setup.start()
}

fn stream(server: &Fixture, body: &Value) -> Connection {
    let mut connection = Connection::open(server.address);
    connection.send("POST", COMPLETIONS, "", body.to_string().as_bytes());
    connection
}

fn gauge(server: &Fixture, name: &str) -> f64 {
    let page = get(server.address, "/metrics").text();
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    let value = line.unwrap_or_else(|| panic!("{name} is not in\n{page}"));
    value.trim().parse().expect("a number")
}

fn long() -> Value {
    json!({"prompt": "abc", "max_tokens": 4000, "stream": true})
}

#[test]
fn a_full_queue_answers_429_with_a_time_to_wait_and_frees_every_seat() {
    let server = small(1, u64::MAX);
    let streams: Vec<_> = (0..3).map(|_| stream(&server, &long())).collect();
    eventually("three are in", || {
        gauge(&server, "vllm:frontend_choices") == 3.0
    });
    // A conversation that would fail to render shows that nothing is rendered before.
    for (path, body) in [
        (COMPLETIONS, json!({"prompt": "y", "max_tokens": 1})),
        (
            CHAT,
            json!({"messages": [{"role": "user", "content": "y"}]}),
        ),
    ] {
        let refused = post(server.address, path, &body);
        assert_eq!(refused.status, 429, "{}", refused.text());
        assert_eq!(refused.headers["retry-after"], "1");
        let error = &refused.json()["error"];
        assert_eq!(error["code"], "queue_full");
        assert_eq!(error["type"], "rate_limit_error");
    }
    let rejections = "vllm:frontend_rejections_total{limit=\"requests\"}";
    assert_eq!(gauge(&server, rejections), 2.0);
    eventually("two run, one waits", || {
        gauge(&server, "vllm:frontend_queued_choices") == 1.0
    });
    assert_eq!(gauge(&server, "vllm:frontend_queued_tokens"), 3.0);
    drop(streams);
    eventually("the seats are free", || {
        gauge(&server, "vllm:frontend_choices") == 0.0
    });
    assert_eq!(gauge(&server, "vllm:frontend_queued_tokens"), 0.0);
    let body = json!({"prompt": "y", "max_tokens": 1});
    assert_eq!(post(server.address, COMPLETIONS, &body).status, 200);
}

#[test]
fn choices_are_counted_not_requests() {
    let server = small(1, u64::MAX);
    let never = post(
        server.address,
        COMPLETIONS,
        &json!({"prompt": ["a", "b"], "n": 2}),
    );
    assert_eq!(
        (never.status, never.json()["error"]["param"].as_str()),
        (400, Some("n")),
        "{}",
        never.text()
    );
    let _two = stream(
        &server,
        &json!({"prompt": "a", "n": 2, "max_tokens": 4000, "stream": true}),
    );
    eventually("two are in", || {
        gauge(&server, "vllm:frontend_choices") == 2.0
    });
    let wide = post(server.address, COMPLETIONS, &json!({"prompt": "a", "n": 2}));
    assert_eq!(wide.status, 429);
    let narrow = stream(&server, &long());
    eventually("the third is in", || {
        gauge(&server, "vllm:frontend_choices") == 3.0
    });
    drop(narrow);
}

#[test]
fn prompt_tokens_that_wait_are_bounded_too() {
    let server = small(100, 50);
    let _running: Vec<_> = (0..2).map(|_| stream(&server, &long())).collect();
    eventually("both run", || {
        gauge(&server, "vllm:frontend_choices") == 2.0
            && gauge(&server, "vllm:frontend_queued_choices") == 0.0
    });
    // An empty queue takes a prompt of any length.
    let _first = stream(
        &server,
        &json!({"prompt": "y".repeat(80), "max_tokens": 4000, "stream": true}),
    );
    eventually("a long one waits", || {
        gauge(&server, "vllm:frontend_queued_tokens") == 80.0
    });
    let refused = post(server.address, COMPLETIONS, &json!({"prompt": "y"}));
    assert_eq!(refused.status, 429);
    let rejections = "vllm:frontend_rejections_total{limit=\"tokens\"}";
    assert_eq!(gauge(&server, rejections), 1.0);
}

#[test]
fn a_request_that_is_refused_later_leaves_no_seat_taken() {
    let server = small(1, u64::MAX);
    let bad = json!({"prompt": [9999]});
    for _ in 0..10 {
        assert_eq!(post(server.address, COMPLETIONS, &bad).status, 400);
    }
    assert_eq!(gauge(&server, "vllm:frontend_choices"), 0.0);
    assert_eq!(gauge(&server, "vllm:frontend_queued_choices"), 0.0);
}
