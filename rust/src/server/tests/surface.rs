// SPDX-License-Identifier: Apache-2.0

//! Everything that is not a good generation request: errors with their shapes, and the small routes.

mod common;

use std::time::{Duration, Instant};

use common::client::{Connection, get, post, request};
use common::{Setup, eventually};
use serde_json::json;
use vllm_server::{ServerConfig, Stopped};

const COMPLETIONS: &str = "/v1/completions";

#[test]
fn bad_requests_are_told_apart_and_harm_nobody() {
    let server = Setup::saying("ok").start();
    let long = vec!["1"; 200_000].join(",");
    let deep = "[".repeat(100_000);
    for (path, body, status, param) in [
        (COMPLETIONS, String::new(), 400, None),
        (COMPLETIONS, "{".into(), 400, None),
        (COMPLETIONS, "nonsense".into(), 400, None),
        (COMPLETIONS, "[]".into(), 400, None),
        (COMPLETIONS, "{\"prompt\": \"\u{0}\"}".into(), 400, None),
        (COMPLETIONS, format!("{{\"prompt\": {deep}"), 400, None),
        (
            COMPLETIONS,
            format!("{{\"prompt\": {deep}{}}}", "]".repeat(100_000)),
            400,
            Some("prompt"),
        ),
        (
            COMPLETIONS,
            "{\"prompt\": \"\"}".into(),
            400,
            Some("prompt"),
        ),
        (
            COMPLETIONS,
            format!("{{\"prompt\": [{long}]}}"),
            400,
            Some("prompt"),
        ),
        (
            COMPLETIONS,
            "{\"prompt\": [9999]}".into(),
            400,
            Some("prompt"),
        ),
        (
            COMPLETIONS,
            "{\"prompt\": \"x\", \"logprobs\": 21}".into(),
            400,
            Some("logprobs"),
        ),
        (
            COMPLETIONS,
            "{\"prompt\": \"x\", \"stop_token_ids\": [258]}".into(),
            400,
            Some("stop_token_ids"),
        ),
        (
            COMPLETIONS,
            "{\"prompt\": \"x\", \"model\": \"other\"}".into(),
            404,
            Some("model"),
        ),
        (
            "/v1/chat/completions",
            "{\"messages\": [{\"role\": \"user\"}]}".into(),
            400,
            Some("messages[0].content"),
        ),
        ("/tokenize", "{}".into(), 400, Some("prompt")),
        (
            "/detokenize",
            "{\"tokens\": [1.5]}".into(),
            400,
            Some("tokens"),
        ),
    ] {
        let reply = request(server.address, "POST", path, "", body.as_bytes());
        let error = reply.json()["error"].clone();
        assert_eq!(reply.status, status, "{path} {:.80} {error}", body);
        assert_eq!(
            error["param"].as_str(),
            param,
            "{path} {:.80} {error}",
            body
        );
        assert!(
            error["message"]
                .as_str()
                .is_some_and(|message| message.len() < 400),
            "{error}"
        );
        assert_eq!(error["type"], "invalid_request_error");
    }
    let good = post(
        server.address,
        COMPLETIONS,
        &json!({"prompt": "x", "max_tokens": 2}),
    );
    assert_eq!(good.json()["choices"][0]["text"], "ok");
    assert_eq!(
        server.counter(|c| &c.added),
        1,
        "nothing else reached the engine"
    );
}

#[test]
fn a_prompt_beyond_the_context_is_told_both_numbers() {
    let mut setup = Setup::saying("x");
    setup.engine.max_model_len = 100;
    let server = setup.start();
    let reply = post(
        server.address,
        COMPLETIONS,
        &json!({"prompt": "y".repeat(150)}),
    );
    let error = reply.json()["error"].clone();
    assert_eq!(
        (reply.status, error["code"].as_str()),
        (400, Some("context_length_exceeded"))
    );
    let message = error["message"].as_str().expect("a message");
    assert!(
        message.contains("150") && message.contains("100"),
        "{message}"
    );
    let cut = json!({"prompt": "y".repeat(150), "truncate_prompt_tokens": 95, "max_tokens": 50});
    let cut = post(server.address, COMPLETIONS, &cut).json();
    assert_eq!(
        cut["usage"],
        json!({"prompt_tokens": 95, "completion_tokens": 5, "total_tokens": 100})
    );
    assert_eq!(cut["choices"][0]["finish_reason"], "length");
}

#[test]
fn a_prompt_that_cannot_fit_is_refused_by_its_bytes() {
    let mut setup = Setup::saying("x");
    setup.engine.max_model_len = 100;
    let server = setup.start();
    // The longest token, `<|im_start|>`, has 12 bytes, and NFC is not applied.
    let long = "y".repeat(99 * 12 + 1);
    let messages = json!([{"role": "user", "content": long}]);
    for (path, body) in [
        (COMPLETIONS, json!({"prompt": long})),
        ("/v1/chat/completions", json!({"messages": messages})),
    ] {
        let reply = post(server.address, path, &body);
        let error = reply.json()["error"].clone();
        assert_eq!(
            (reply.status, error["code"].as_str()),
            (400, Some("context_length_exceeded"))
        );
        let message = error["message"].as_str().expect("a message");
        assert!(message.contains("at most 1188 bytes"), "{message}");
    }
    let fits = json!({"prompt": "<|im_start|>".repeat(99), "max_tokens": 1});
    assert_eq!(post(server.address, COMPLETIONS, &fits).status, 200);
    let cut = json!({"prompt": long, "truncate_prompt_tokens": 5, "max_tokens": 1});
    assert_eq!(post(server.address, COMPLETIONS, &cut).status, 200);
    let counted = post(server.address, "/tokenize", &json!({"prompt": long}));
    assert_eq!(counted.json()["count"], 99 * 12 + 1);
}

#[test]
fn unknown_paths_methods_and_routes_have_json_errors() {
    let server = Setup::saying("x").start();
    assert_eq!(
        get(server.address, "/nothing").json()["error"]["code"],
        "not_found"
    );
    let wrong = get(server.address, COMPLETIONS);
    assert_eq!(
        (wrong.status, wrong.headers["allow"].as_str()),
        (405, "POST")
    );
    let unserved = post(server.address, "/v1/embeddings", &json!({}));
    assert_eq!(
        (unserved.status, unserved.json()["error"]["type"].as_str()),
        (501, Some("not_implemented_error"))
    );
    assert_eq!(unserved.headers["x-should-retry"], "false");
    assert!(!wrong.headers.contains_key("x-should-retry"));
    assert_eq!(
        post(server.address, "/sleep", &json!({})).status,
        501,
        "development mode is off"
    );
}

#[test]
fn operators_routes_are_calls_on_the_engines_behind_a_key() {
    let mut setup = Setup::saying("x");
    setup.config.dev_mode = true;
    setup.config.api_keys = common::keys(&["secret"]);
    let server = setup.start();
    let key = "Authorization: Bearer secret\r\n";
    let ask = |method: &str, path: &str, body: &str| {
        request(server.address, method, path, key, body.as_bytes())
    };
    for (method, path, body) in [
        ("POST", "/reset_prefix_cache", ""),
        ("POST", "/sleep?level=1", ""),
        ("POST", "/wake_up", ""),
        ("GET", "/is_sleeping", ""),
        ("POST", "/pause", ""),
        ("POST", "/resume", ""),
        ("GET", "/is_paused", ""),
        ("POST", "/collective_rpc", r#"{"method": "m"}"#),
        ("POST", "/start_profile", ""),
        ("POST", "/stop_profile", ""),
        ("GET", "/server_info", ""),
    ] {
        let closed = request(server.address, method, path, "", body.as_bytes());
        assert_eq!(closed.status, 401, "{path}");
        let reply = ask(method, path, body);
        // What the double does not know it refuses, which shows that it was asked.
        let refused = reply.status == 500 && reply.text().contains("engine_error");
        assert!(reply.status == 200 || refused, "{path}: {}", reply.text());
    }
    let info = ask("GET", "/server_info", "");
    assert!(!info.text().contains("secret") && info.json()["engines"][0]["index"] == 0);
    assert_eq!(ask("POST", "/sleep?level=x", "").status, 400);
    assert_eq!(ask("POST", "/collective_rpc", "{}").status, 400);
}

#[test]
fn bodies_beyond_the_limit_are_refused_before_they_are_read() {
    let mut setup = Setup::saying("x");
    setup.config.max_body_bytes = 1000;
    let server = setup.start();
    let mut connection = Connection::open(server.address);
    connection.write(b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Length: 1001\r\n\r\n");
    assert_eq!(connection.reply().status, 413);
    let mut connection = Connection::open(server.address);
    connection
        .write(b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
    connection.write(format!("44c\r\n{}\r\n", "x".repeat(1100)).as_bytes());
    assert_eq!(connection.reply().status, 413);
}

#[test]
fn keys_guard_everything_but_health_and_version() {
    let mut setup = Setup::saying("x");
    setup.config.api_keys = common::keys(&["secret", "second"]);
    let server = setup.start();
    for path in [
        "/v1/models",
        "/metrics",
        "/load",
        "/v1/embeddings",
        COMPLETIONS,
    ] {
        let method = if path.starts_with("/v1/e") || path == COMPLETIONS {
            "POST"
        } else {
            "GET"
        };
        let refused = request(server.address, method, path, "", b"{}");
        assert_eq!(
            (refused.status, refused.headers["www-authenticate"].as_str()),
            (401, "Bearer"),
            "{path}"
        );
        let wrong = request(
            server.address,
            method,
            path,
            "Authorization: Bearer secrex\r\n",
            b"{}",
        );
        assert_eq!(wrong.status, 401, "{path}");
    }
    for path in ["/health", "/live", "/ready", "/ping", "/version"] {
        assert_eq!(get(server.address, path).status, 200, "{path}");
    }
    let known = request(
        server.address,
        "GET",
        "/v1/models",
        "Authorization: Bearer second\r\n",
        b"",
    );
    assert_eq!(known.status, 200);
}

#[test]
fn models_version_load_and_metrics() {
    let server = Setup::saying("x").start();
    let models = get(server.address, "/v1/models").json();
    assert_eq!(models["data"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        get(server.address, "/v1/models/org%2Ftiny").json()["id"],
        "org/tiny"
    );
    assert_eq!(
        get(server.address, "/v1/models/org/tiny").json()["max_model_len"],
        131_072
    );
    assert_eq!(get(server.address, "/v1/models/no").status, 404);
    assert_eq!(
        get(server.address, "/version").json()["version"],
        env!("CARGO_PKG_VERSION")
    );
    post(
        server.address,
        COMPLETIONS,
        &json!({"prompt": "abc", "max_tokens": 4}),
    );
    let load = get(server.address, "/load").json();
    assert_eq!(
        (&load["server_load"], &load["engines"][0]["ready"]),
        (&json!(0), &json!(true))
    );
    let page = get(server.address, "/metrics").text();
    for line in [
        "vllm:prompt_tokens_total{engine=\"0\",model_name=\"tiny\"} 3.0",
        "vllm:frontend_write_seconds_count 1.0",
        "vllm:frontend_render_seconds_count 0.0",
        "vllm:generation_tokens_total{engine=\"0\",model_name=\"tiny\"} 4.0",
        "vllm:iteration_tokens_total_bucket{engine=\"0\",model_name=\"tiny\",le=\"1.0\"} 3.0",
        "vllm:iteration_tokens_total_bucket{engine=\"0\",model_name=\"tiny\",le=\"8.0\"} 4.0",
        "vllm:iteration_tokens_total_sum{engine=\"0\",model_name=\"tiny\"} 7.0",
        "vllm:request_success_total{engine=\"0\",finished_reason=\"length\",model_name=\"tiny\"} 1.0",
        "http_requests_total{handler=\"/v1/completions\",method=\"POST\",status=\"2xx\"} 1.0",
    ] {
        assert!(page.lines().any(|l| l == line), "{line} is not in\n{page}");
    }
}

#[test]
fn the_interface_is_told_to_programs_and_to_people() {
    let server = Setup::saying("x").start();
    let document = get(server.address, "/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["paths"]["/v1/completions"]["post"].is_object());
    let page = get(server.address, "/docs");
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    let policy = &page.headers["content-security-policy"];
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    assert!(page.text().contains("/v1/completions"));
}

#[test]
fn text_goes_to_tokens_and_back() {
    let server = Setup::saying("x").start();
    let tokens = post(
        server.address,
        "/tokenize",
        &json!({"prompt": "hé", "return_token_strs": true}),
    )
    .json();
    assert_eq!(
        (&tokens["tokens"], &tokens["count"]),
        (&json!([104, 195, 169]), &json!(3))
    );
    assert_eq!(tokens["token_strs"][0], "h");
    let chat =
        json!({"messages": [{"role": "user", "content": "a"}], "add_generation_prompt": false});
    let ids = post(server.address, "/tokenize", &chat).json()["tokens"].clone();
    let text = post(server.address, "/detokenize", &json!({"tokens": ids})).json();
    assert_eq!(text["prompt"], "<|im_start|>user\na<|im_end|>\n");
}

#[test]
fn a_clients_request_id_is_kept() {
    let mut setup = Setup::saying("x");
    setup.config.request_id_headers = true;
    let server = setup.start();
    let body = json!({"prompt": "a", "max_tokens": 1}).to_string();
    let reply = request(
        server.address,
        "POST",
        COMPLETIONS,
        "X-Request-Id: mine\r\n",
        body.as_bytes(),
    );
    assert_eq!(
        (
            reply.json()["id"].as_str(),
            reply.headers["x-request-id"].as_str()
        ),
        (Some("cmpl-mine"), "mine")
    );
    for stream in [false, true] {
        let own = json!({"prompt": "a", "max_tokens": 1, "request_id": "field", "stream": stream});
        let reply = post(server.address, COMPLETIONS, &own);
        assert!(reply.text().contains("\"cmpl-field\""), "{}", reply.text());
        assert_eq!(reply.headers["x-request-id"], "field");
    }
}

#[test]
fn connections_are_kept_and_shards_share_them() {
    let mut setup = Setup::saying("ok");
    setup.config = ServerConfig {
        shards: 3,
        max_shards: 3,
        ..setup.config
    };
    let server = setup.start();
    let body = json!({"prompt": "a", "max_tokens": 2}).to_string();
    let mut connections: Vec<_> = (0..6).map(|_| Connection::open(server.address)).collect();
    for _ in 0..3 {
        for connection in &mut connections {
            connection.send("POST", COMPLETIONS, "", body.as_bytes());
        }
        for connection in &mut connections {
            assert_eq!(connection.reply().json()["choices"][0]["text"], "ok");
        }
    }
    assert_eq!(server.counter(|c| &c.finished), 18);
    let page = get(server.address, "/metrics").text();
    assert!(page.contains("vllm:frontend_shards 3.0"), "{page}");
}

#[test]
fn a_drain_lets_streams_finish_and_refuses_new_work() {
    let mut server = Setup::saying("abcdefgh").step_ms(20.0).start();
    let mut stream = Connection::open(server.address);
    let body = json!({"prompt": "a", "max_tokens": 50, "stream": true}).to_string();
    stream.send("POST", COMPLETIONS, "", body.as_bytes());
    assert_eq!(stream.head().0, 200);
    server.stop(common::PATIENCE);
    eventually("the socket closes", || {
        std::net::TcpStream::connect(server.address).is_err()
    });
    let mut text = String::new();
    while let Some(chunk) = stream.chunk() {
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    assert_eq!(server.join(), Stopped::Drained);
}

#[test]
fn at_the_deadline_streams_end_with_a_reason_and_the_engine_is_told() {
    let mut server = Setup::saying("abc").step_ms(20.0).start();
    let mut stream = Connection::open(server.address);
    let body = json!({"prompt": "a", "max_tokens": 4000, "stream": true}).to_string();
    stream.send("POST", COMPLETIONS, "", body.as_bytes());
    assert_eq!(stream.head().0, 200);
    server.stop(Duration::ZERO);
    let mut text = String::new();
    while let Some(chunk) = stream.chunk() {
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(text.contains("\"code\":\"shutting_down\""), "{text}");
    assert_eq!(server.join(), Stopped::Aborted);
    eventually("the engine is told", || server.counter(|c| &c.open) == 0);
}

#[test]
fn an_idle_server_stops_at_once() {
    let mut server = Setup::saying("x").start();
    let mut idle = Connection::open(server.address);
    idle.send("GET", "/health", "", b"");
    assert_eq!(idle.reply().status, 200);
    let began = Instant::now();
    server.stop(common::PATIENCE);
    assert_eq!(server.join(), Stopped::Drained);
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(idle.is_closed());
}

#[test]
fn a_page_to_chat_and_watch_is_served_to_everybody_unless_it_is_off() {
    let mut setup = Setup::saying("x");
    setup.config.api_keys = common::keys(&["secret"]);
    let page = get(setup.start().address, "/");
    assert_eq!(
        (page.status, page.headers["content-type"].as_str()),
        (200, "text/html; charset=utf-8")
    );
    let policy = &page.headers["content-security-policy"];
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"));
    assert!(!policy.contains("unsafe"), "{policy}");
    let mut setup = Setup::saying("x");
    setup.config.disable_web_ui = true;
    let off = get(setup.start().address, "/");
    assert_eq!(off.status, 501);
    assert!(off.text().contains("--disable-web-ui"), "{}", off.text());
}
