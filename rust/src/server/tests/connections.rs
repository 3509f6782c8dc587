// SPDX-License-Identifier: Apache-2.0

//! More connections than may be open, and the time between the signal to stop and the closed door.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use common::client::{Connection, request};
use common::{PATIENCE, Setup, eventually};
use serde_json::json;

const LIMIT: usize = 8;
/// A quarter of the limit is kept for questions about health.
const FREE: usize = 6;

fn completion() -> Vec<u8> {
    json!({"model": "tiny", "prompt": "a", "max_tokens": 2})
        .to_string()
        .into_bytes()
}

/// A server whose places are all taken but those that are kept.
fn crowded(setup: impl FnOnce(&mut Setup)) -> (common::Fixture, Vec<Connection>) {
    let mut wanted = Setup::saying("x");
    wanted.config.max_connections = LIMIT;
    setup(&mut wanted);
    let server = wanted.start();
    let taken: Vec<_> = (0..FREE)
        .map(|_| {
            let mut connection = Connection::open(server.address);
            connection.send("GET", "/live", "", b"");
            assert_eq!(connection.reply().status, 200);
            connection
        })
        .collect();
    (server, taken)
}

#[test]
fn health_is_told_while_all_other_places_are_taken() {
    let (server, mut taken) = crowded(|_| {});
    for _ in 0..2 * LIMIT {
        let mut probe = Connection::open(server.address);
        probe.send("GET", "/health", "", b"");
        assert_eq!(probe.reply().status, 200);
        assert!(probe.is_closed(), "a kept place is for one question");
    }
    let mut client = Connection::open(server.address);
    client.send("POST", "/v1/completions", "", &completion());
    let refused = client.reply();
    assert_eq!(refused.status, 503);
    assert_eq!(refused.json()["error"]["code"], "too_many_connections");
    assert!(client.is_closed());
    let page = request(server.address, "GET", "/metrics", "", b"");
    let page = String::from_utf8(page.body).expect("UTF-8");
    assert!(
        page.contains("vllm:frontend_connections_refused_total 1.0"),
        "{page}"
    );
    drop(taken.pop());
    eventually("a place is free again", || {
        request(server.address, "POST", "/v1/completions", "", &completion()).status == 200
    });
}

/// Whether `/health` is answered; a closed connection is no failure.
fn answers(address: SocketAddr) -> bool {
    let ask = || {
        let mut probe = TcpStream::connect(address)?;
        probe.set_read_timeout(Some(PATIENCE))?;
        probe.write_all(b"GET /health HTTP/1.1\r\nHost: t\r\n\r\n")?;
        let mut answer = String::new();
        probe.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

#[test]
fn silence_does_not_keep_the_places_of_health() {
    let (server, _taken) = crowded(|setup| setup.config.read_timeout = Duration::from_millis(200));
    let _silent: Vec<_> = (FREE..LIMIT)
        .map(|_| Connection::open(server.address))
        .collect();
    let mut one_too_many = Connection::open(server.address);
    assert!(one_too_many.is_closed());
    eventually("health is told", || answers(server.address));
}

#[test]
fn within_the_grace_requests_are_served_and_the_server_is_not_ready() {
    let mut setup = Setup::saying("x");
    setup.config.drain_grace = PATIENCE * 100;
    let mut server = setup.start();
    let status = |path| request(server.address, "GET", path, "", b"").status;
    assert_eq!((status("/ready"), status("/live")), (200, 200));
    server.leave();
    let address = server.address;
    let status = |path| request(address, "GET", path, "", b"").status;
    eventually("it is not ready", || status("/ready") == 503);
    assert_eq!((status("/health"), status("/live")), (503, 200));
    let done = request(address, "POST", "/v1/completions", "", &completion());
    assert_eq!(done.status, 200);
    server.stop(Duration::ZERO);
    assert_eq!(server.join(), vllm_server::Stopped::Drained);
    assert!(TcpStream::connect(address).is_err(), "the door is closed");
}

#[test]
fn a_silent_stream_sends_comments_where_it_is_told_to() {
    let body = json!({"prompt": "a", "max_tokens": 2, "stream": true}).to_string();
    let answer = |period: Option<Duration>| {
        // The engine falls silent for far longer than the period.
        let mut setup = Setup::saying("ab").step_ms(500.0);
        setup.config.sse_keep_alive = period;
        let server = setup.start();
        let reply = request(
            server.address,
            "POST",
            "/v1/completions",
            "",
            body.as_bytes(),
        );
        assert_eq!(reply.status, 200);
        reply.text()
    };
    let kept = answer(Some(Duration::from_millis(20)));
    let comments = kept.matches(": keep-alive\n\n").count();
    assert!(comments > 0, "{kept}");
    let events = |text: &str| {
        text.replace(": keep-alive\n\n", "")
            .matches("data: ")
            .count()
    };
    let silent = answer(None);
    assert!(!silent.contains("keep-alive"), "{silent}");
    assert_eq!(events(&kept), events(&silent));
}
