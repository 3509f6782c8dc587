// SPDX-License-Identifier: Apache-2.0

//! Clients that leave, clients that don't read, engines that misbehave.

mod common;

use common::client::{Connection, Reply, get, post};
use common::{Fixture, Setup, eventually};
use serde_json::{Value, json};

const COMPLETIONS: &str = "/v1/completions";

fn open(server: &Fixture, body: &Value) -> Connection {
    ask(Connection::open(server.address), body)
}

fn ask(mut connection: Connection, body: &Value) -> Connection {
    connection.send("POST", COMPLETIONS, "", body.to_string().as_bytes());
    connection
}

fn works(server: &Fixture) {
    let reply = post(
        server.address,
        COMPLETIONS,
        &json!({"prompt": "a", "max_tokens": 2}),
    );
    assert_eq!(
        (reply.status, &reply.json()["choices"][0]["text"]),
        (200, &json!("ab"))
    );
}

#[test]
fn a_client_that_leaves_ends_its_requests_streamed_or_not() {
    let server = Setup::saying("ab").step_ms(5.0).start();
    for stream in [true, false] {
        let mut connection = open(
            &server,
            &json!({"prompt": "a", "max_tokens": 4000, "n": 3, "stream": stream}),
        );
        eventually("the engine works", || server.counter(|c| &c.open) == 3);
        if stream {
            assert_eq!(connection.head().0, 200);
        }
        drop(connection);
        eventually("the engine is told", || server.counter(|c| &c.open) == 0);
    }
    assert_eq!(server.counter(|c| &c.aborted), 6);
    eventually("nothing is left", || {
        get(server.address, "/load").json()["server_load"] == 0
    });
    let page = get(server.address, "/metrics").text();
    assert!(
        page.contains("finished_reason=\"abort\",model_name=\"tiny\"} 6.0"),
        "{page}"
    );
}

#[test]
fn bytes_behind_a_request_do_not_hide_that_the_client_left() {
    let server = Setup::saying("ab").step_ms(5.0).start();
    let behind = [
        "\r\n",
        "GET /live HTTP/1.1\r\nHost: test\r\n\r\n",
        "GET /l",
        "\0\0",
    ];
    for more in behind {
        leave_bytes(&server, more, false);
        leave_bytes(&server, more, true);
    }
    assert_eq!(server.counter(|c| &c.aborted), 8);
}

fn leave_bytes(server: &Fixture, more: &str, stream: bool) {
    let body = json!({"prompt": "a", "max_tokens": 4000, "stream": stream});
    let mut connection = open(server, &body);
    connection.write(more.as_bytes());
    eventually("the engine works", || server.counter(|c| &c.open) == 1);
    if stream {
        assert_eq!(connection.head().0, 200);
        connection.write(more.as_bytes());
    }
    drop(connection);
    eventually("the engine is told", || server.counter(|c| &c.open) == 0);
}

#[test]
fn streams_and_whole_answers_follow_each_other_on_one_connection() {
    let server = Setup::saying("ab").step_ms(5.0).start();
    let mut connection = Connection::open(server.address);
    let ask = |connection: &mut Connection, tokens: u64, stream: bool| {
        let mut body = json!({"prompt": "a", "max_tokens": tokens, "stream": stream});
        if stream {
            body["stream_options"] = json!({"include_usage": true});
        }
        connection.send("POST", COMPLETIONS, "", body.to_string().as_bytes());
    };
    for tokens in 2..6 {
        ask(&mut connection, tokens, true);
        assert_eq!(streamed_tokens(&connection.reply()), tokens);
        ask(&mut connection, tokens, false);
        assert_eq!(
            connection.reply().json()["usage"]["completion_tokens"],
            tokens
        );
    }
    // Sent ahead, while the first one is streamed.
    ask(&mut connection, 20, true);
    assert_eq!(connection.head().0, 200);
    ask(&mut connection, 3, true);
    connection.send("GET", "/live", "", b"");
    while connection.chunk().is_some() {}
    assert_eq!(streamed_tokens(&connection.reply()), 3);
    assert_eq!(connection.reply().status, 200);
}

/// By the usage at the end of a stream.
fn streamed_tokens(reply: &Reply) -> u64 {
    let events = reply.events();
    let usage = &events.last().expect("a usage")["usage"];
    usage["completion_tokens"].as_u64().expect("a number")
}

const PROMPT: usize = 20_000;

/// A stream that begins with some 6 MB, and a client that takes little at once.
fn large_first_event(server: &Fixture, max_tokens: u32) -> Connection {
    let body = json!({
        "prompt": vec![97; PROMPT], "max_tokens": max_tokens, "prompt_logprobs": 5, "stream": true,
        "stream_options": {"include_usage": true}
    });
    ask(Connection::with_small_window(server.address), &body)
}

#[test]
fn a_first_event_larger_than_the_socket_takes_is_followed_by_the_others() {
    let server = Setup::saying("ab").step_ms(5.0).start();
    let reply = large_first_event(&server, 5).reply();
    let told = &reply.events()[0]["choices"][0]["prompt_logprobs"];
    assert_eq!(told.as_array().map(Vec::len), Some(PROMPT));
    assert_eq!(streamed_tokens(&reply), 5);
    assert_eq!(server.counter(|c| &c.aborted), 0);
}

#[test]
fn a_client_that_leaves_within_the_first_event_ends_its_request() {
    let server = Setup::saying("ab").step_ms(5.0).start();
    let mut connection = large_first_event(&server, 40_000);
    assert_eq!(connection.head().0, 200);
    drop(connection);
    eventually("the engine is told", || server.counter(|c| &c.aborted) == 1);
}

#[test]
fn who_asks_for_it_has_the_connection_closed_behind_a_stream() {
    let server = Setup::saying("ab").step_ms(5.0).start();
    let mut connection = Connection::open(server.address);
    let body = json!({"prompt": "a", "max_tokens": 3, "stream": true}).to_string();
    let close = "Connection: close\r\n";
    connection.send("POST", COMPLETIONS, close, body.as_bytes());
    assert!(!connection.reply().events().is_empty());
    assert!(connection.is_closed());
}

#[test]
fn a_second_request_waits_for_the_first_and_is_answered() {
    let server = Setup::saying("ab").step_ms(5.0).start();
    let mut connection = open(&server, &json!({"prompt": "a", "max_tokens": 20}));
    let long = "x".repeat(40_000);
    let body = json!({"prompt": "a", "max_tokens": 2, "user": long});
    connection.send("POST", COMPLETIONS, "", body.to_string().as_bytes());
    connection.send("GET", "/live", "", b"");
    assert_eq!(connection.reply().json()["usage"]["completion_tokens"], 20);
    let second = connection.reply();
    assert_eq!(second.status, 200, "{}", second.text());
    assert_eq!(second.json()["usage"]["completion_tokens"], 2);
    assert_eq!(connection.reply().status, 200);
}

#[test]
fn a_client_that_does_not_read_is_ended() {
    let mut setup = Setup::saying("ab");
    setup.engine.max_model_len = 100_000_000;
    setup.stream_limit = 200_000;
    let server = setup.start();
    let mut connection = ask(
        Connection::with_small_window(server.address),
        &json!({"prompt": "a", "max_tokens": 90_000_000, "stream": true}),
    );
    assert_eq!(connection.head().0, 200);
    eventually("the engine is told", || server.counter(|c| &c.aborted) == 1);
    works(&server);
    let mut last = Vec::new();
    while let Some(chunk) = connection.chunk() {
        last = chunk;
    }
    assert!(
        String::from_utf8_lossy(&last).contains("slow_reader"),
        "the client is told why"
    );
}

#[test]
fn an_answer_that_cannot_be_decoded_fails_its_request_alone() {
    for fault in ["wrong-type@3", "bad-finish@3"] {
        let server = Setup::saying("ab").step_ms(5.0).fault(fault).start();
        let stream = post(
            server.address,
            COMPLETIONS,
            &json!({"prompt": "a", "max_tokens": 20, "stream": true}),
        );
        let events = stream.events();
        let error = &events.last().expect("an event")["error"];
        assert_eq!(error["code"], "engine_error", "{fault}: {error}");
        assert!(get(server.address, "/health").status == 200);
        works(&server);
    }
}

#[test]
fn messages_that_say_too_much_or_too_little_harm_nobody() {
    for fault in ["garbage@2", "tenth@2", "missing-stats@2", "empty@2"] {
        let server = Setup::saying("ab").step_ms(5.0).fault(fault).start();
        let reply = post(
            server.address,
            COMPLETIONS,
            &json!({"prompt": "a", "max_tokens": 6}),
        );
        assert_eq!(reply.status, 200, "{fault}: {}", reply.text());
        works(&server);
    }
}

#[test]
fn an_error_before_the_first_token_is_an_http_error() {
    let server = Setup::saying("ab").fault("wrong-type@1").start();
    let reply = post(
        server.address,
        COMPLETIONS,
        &json!({"prompt": "a", "stream": true}),
    );
    assert_eq!(
        (reply.status, reply.json()["error"]["code"].as_str()),
        (500, Some("engine_error"))
    );
    works(&server);
}

#[test]
fn a_dead_engine_fails_its_requests_and_the_health_check() {
    for fault in ["sentinel@5", "die@5"] {
        let server = Setup::saying("ab").step_ms(5.0).fault(fault).start();
        let stream = post(
            server.address,
            COMPLETIONS,
            &json!({"prompt": "a", "max_tokens": 4000, "stream": true}),
        );
        let error = stream.events().pop().expect("an event")["error"].clone();
        assert_eq!(error["code"], "engine_unavailable", "{fault}: {error}");
        let told = error["message"].as_str().unwrap_or_default();
        assert!(told.contains("worked on this request was lost"), "{told}");
        let health = get(server.address, "/health");
        assert_eq!(
            (health.status, get(server.address, "/live").status),
            (503, 200),
            "{fault}"
        );
        let refused = post(server.address, COMPLETIONS, &json!({"prompt": "a"}));
        assert_eq!(refused.status, 503, "{fault}");
    }
}
