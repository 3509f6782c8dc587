// SPDX-License-Identifier: Apache-2.0

//! What is refused for its head alone: other kinds of body, pages of other origins, hosts, ids.

mod common;

use common::client::{Connection, Reply, get, request};
use common::{Fixture, Setup};
use serde_json::json;
use vllm_server::Cors;

const COMPLETIONS: &str = "/v1/completions";
const JSON: &str = "Content-Type: application/json\r\n";

/// A good request with these further header lines.
fn ask(server: &Fixture, headers: &str) -> Reply {
    let body = json!({"prompt": "a", "max_tokens": 1}).to_string();
    request(
        server.address,
        "POST",
        COMPLETIONS,
        headers,
        body.as_bytes(),
    )
}

fn code(reply: &Reply) -> String {
    let code = reply.json()["error"]["code"].clone();
    code.as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_body_is_json_or_names_what_it_is() {
    let server = Setup::saying("x").start();
    for headers in [
        "",
        JSON,
        "content-type: Application/Problem+JSON;x=y\r\n",
        "Content-Type: application/json\r\nContent-Encoding: identity\r\n",
    ] {
        assert_eq!(ask(&server, headers).status, 200, "{headers}");
    }
    for (headers, param, shown) in [
        ("Content-Type: text/plain\r\n", "Content-Type", "text/plain"),
        (
            "Content-Type: application/x-www-form-urlencoded\r\n",
            "Content-Type",
            "application/json",
        ),
        (
            "Content-Type: application/json\r\nContent-Type: text/plain\r\n",
            "Content-Type",
            "text/plain",
        ),
        (
            "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
            "Content-Encoding",
            "gzip",
        ),
    ] {
        let reply = ask(&server, headers);
        let error = reply.json()["error"].clone();
        assert_eq!((reply.status, &error["param"]), (415, &json!(param)));
        let message = error["message"].as_str().expect("a message");
        assert!(message.contains(shown), "{message}");
    }
    assert_eq!(server.counter(|c| &c.added), 4);
}

#[test]
fn a_transfer_coding_that_nobody_knows_is_refused_by_name() {
    let server = Setup::saying("x").start();
    for (coding, status) in [("chunked", 200), ("gzip, chunked", 501)] {
        let body = json!({"prompt": "a", "max_tokens": 1}).to_string();
        let reply = raw(
            &server,
            &format!(
                "POST {COMPLETIONS} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                body.len()
            ),
        );
        assert_eq!(reply.status, status, "{}", reply.text());
        assert!(
            status == 200 || reply.text().contains(coding),
            "{}",
            reply.text()
        );
    }
}

#[test]
fn behind_a_body_of_two_lengths_nothing_is_answered_streamed_or_not() {
    let server = Setup::saying("x").step_ms(5.0).start();
    let (length, chunked) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
    for stream in [true, false] {
        let body = json!({"prompt": "a", "max_tokens": 3, "stream": stream}).to_string();
        for both in [[length, chunked], [chunked, length]] {
            let mut connection = Connection::open(server.address);
            let request = format!(
                "POST {COMPLETIONS} HTTP/1.1\r\nHost: test\r\n{}\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                both.concat(),
                body.len()
            );
            connection.write(request.as_bytes());
            connection.send("GET", "/live", "", b"");
            let reply = connection.reply();
            let option = reply.headers.get("connection");
            assert_eq!(
                (reply.status, option.map(String::as_str)),
                (200, Some("close"))
            );
            assert!(connection.is_closed(), "{both:?}");
        }
    }
}

#[test]
fn a_stream_of_http_1_0_ends_with_its_connection_and_says_nothing_else() {
    let server = Setup::saying("x").start();
    for (stream, kept) in [(false, Some("keep-alive")), (true, None)] {
        let body = json!({"prompt": "a", "max_tokens": 1, "stream": stream}).to_string();
        let mut connection = Connection::open(server.address);
        let head = format!(
            "POST {COMPLETIONS} HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        connection.write(head.as_bytes());
        let (status, headers) = connection.head();
        assert_eq!(status, 200);
        assert_eq!(headers.get("connection").map(String::as_str), kept);
    }
}

#[test]
fn chunks_that_are_none_are_told_from_a_body_that_broke_off() {
    let server = Setup::saying("x").start();
    let head =
        format!("POST {COMPLETIONS} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let reply = raw(&server, &format!("{head}no size\r\n"));
    assert_eq!(reply.status, 400);
    assert!(
        reply.text().contains("size in hexadecimal"),
        "{}",
        reply.text()
    );
}

const FOREIGN: &[&str] = &[
    "Origin: https://evil.example\r\n",
    "Origin: http://127.0.0.1:9\r\n",
    "Origin: null\r\n",
    "Sec-Fetch-Site: cross-site\r\n",
    "Sec-Fetch-Site: same-site\r\nOrigin: http://test\r\n",
];

const OWN: &[&str] = &[
    "",
    "Origin: http://test\r\n",
    "Sec-Fetch-Site: same-origin\r\n",
    "Sec-Fetch-Site: none\r\n",
    // A proxy may have changed the host: the browser knows better.
    "Sec-Fetch-Site: same-origin\r\nOrigin: https://proxy.example\r\n",
];

#[test]
fn pages_of_other_origins_change_nothing_where_no_key_is_needed() {
    let mut setup = Setup::saying("x");
    setup.config.dev_mode = true;
    let server = setup.start();
    for headers in FOREIGN {
        // Neither a body without a kind nor one of JSON's makes a stranger's page welcome.
        for kind in ["", JSON] {
            let refused = ask(&server, &format!("{headers}{kind}"));
            assert_eq!(
                (refused.status, &code(&refused)[..]),
                (403, "origin_not_allowed"),
                "{headers}"
            );
        }
        for path in ["/sleep", "/pause", "/resume", "/reset_prefix_cache"] {
            let refused = request(server.address, "POST", path, headers, b"");
            assert_eq!(refused.status, 403, "{path} {headers}");
        }
        let read = request(server.address, "GET", "/v1/models", headers, b"");
        assert_eq!(read.status, 200, "a page cannot read what it asks for");
    }
    for headers in OWN {
        assert_eq!(ask(&server, headers).status, 200, "{headers}");
    }
}

#[test]
fn pages_of_named_origins_and_holders_of_a_key_are_let_in() {
    let mut setup = Setup::saying("x");
    setup.config.cors = Cors {
        origins: vec!["https://good.example".to_owned()],
        ..Cors::default()
    };
    let server = setup.start();
    let good = "Sec-Fetch-Site: cross-site\r\nOrigin: https://good.example\r\n";
    assert_eq!(ask(&server, good).status, 200);
    assert_eq!(ask(&server, FOREIGN[0]).status, 403);
    let mut setup = Setup::saying("x");
    setup.config.api_keys = common::keys(&["secret"]);
    let server = setup.start();
    assert_eq!(ask(&server, FOREIGN[0]).status, 401);
    let key = format!("{}Authorization: Bearer secret\r\n", FOREIGN[0]);
    assert_eq!(ask(&server, &key).status, 200);
}

/// The answer to exactly these bytes.
fn raw(server: &Fixture, head: &str) -> Reply {
    let mut connection = Connection::open(server.address);
    connection.write(head.as_bytes());
    connection.reply()
}

#[test]
fn one_host_is_named() {
    let server = Setup::saying("x").start();
    for (head, status) in [
        ("GET /health HTTP/1.1\r\n\r\n", 400),
        ("GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET /health HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET /health HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET /health HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET /health HTTP/1.0\r\n\r\n", 200),
        ("GET /health HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n", 200),
        ("GET /health HTTP/1.1\r\nHost:\r\n\r\n", 200),
    ] {
        let reply = raw(&server, head);
        assert_eq!(reply.status, status, "{head:?}");
        if status == 400 {
            assert_eq!(reply.json()["error"]["param"], "Host", "{head:?}");
        }
    }
}

#[test]
fn odd_targets_are_answered_by_name() {
    let server = Setup::saying("x").start();
    let tunnel = raw(&server, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n");
    assert_eq!(tunnel.status, 400);
    assert!(tunnel.text().contains("no proxy"), "{}", tunnel.text());
    let absolute = "GET http://a/health HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(raw(&server, absolute).status, 200);
    for path in ["*", "//health", "/health/", "/v1/%6dodels"] {
        let head = format!("OPTIONS {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        let reply = raw(&server, &head);
        assert_eq!((reply.status, &code(&reply)[..]), (404, "not_found"));
    }
}

#[test]
fn an_id_is_repeated_only_where_it_can_be_shown() {
    let mut setup = Setup::saying("x");
    setup.config.request_id_headers = true;
    let server = setup.start();
    let ids = |headers: &str| {
        let reply = ask(&server, headers);
        let id = reply.json()["id"].as_str().expect("an id").to_owned();
        (id, reply.headers["x-request-id"].clone())
    };
    assert_eq!(
        ids("X-Request-Id: mine\r\n"),
        ("cmpl-mine".into(), "mine".into())
    );
    let long = format!("X-Request-Id: {}\r\n", "y".repeat(513));
    for headers in [
        "",
        "X-Request-Id:\r\n",
        "X-Request-Id: a\tb\r\n",
        "X-Request-Id: a b\r\n",
        &long,
    ] {
        let (id, shown) = ids(headers);
        assert_eq!(id, format!("cmpl-{shown}"), "one id in both places");
        assert_eq!(shown.len(), 32, "{headers:.40}");
    }
    assert_eq!(
        get(server.address, "/health").headers["x-request-id"].len(),
        32
    );
}
