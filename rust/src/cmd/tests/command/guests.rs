// SPDX-License-Identifier: Apache-2.0

//! Chat templates of requests: whatever they do, their process ends at a limit, and the server goes on.

use serde_json::{Value, json};

use crate::frontend::{Frontend, frontend_set};
use crate::process::{command, post};

fn server() -> Frontend {
    let mut command = command();
    command.arg("frontend");
    let server = frontend_set(command, &json!({"trust_request_chat_template": true}));
    server.running.after("serving tiny");
    server
}

/// The answer to a conversation of one word under `template`.
fn render(server: &Frontend, template: &str) -> Value {
    let body =
        json!({"messages": [{"role": "user", "content": "word"}], "chat_template": template});
    post(&server.address, "/v1/chat/completions/render", &body)
}

/// Lists within lists: so many bytes of source, twice as many items with each level.
fn doubled(name: &str) -> String {
    let set = format!("{{% set ns.{name} = [ns.{name}, ns.{name}] %}}");
    format!("{{% set ns.{name} = [1] %}}{}", set.repeat(60))
}

#[test]
fn a_sound_template_is_rendered() {
    let server = server();
    let answer = render(
        &server,
        "{% for m in messages %}{{ m.content | upper }}{% endfor %}",
    );
    let expected: Vec<u32> = b"WORD".iter().copied().map(u32::from).collect();
    assert_eq!(answer["token_ids"], json!(expected), "{answer}");
}

#[test]
fn what_a_template_refuses_or_does_wrong_is_told_as_ever() {
    let server = server();
    let endless = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}";
    for (template, words) in [
        ("{{ raise_exception('no user') }}", &["no user"][..]),
        ("{% if %}", &["does not compile"]),
        ("{{ 1 + 'x' }}", &["failed on this conversation"]),
        (endless, &["1000000 steps", "100 ms"]),
    ] {
        let error = &render(&server, template)["error"];
        let message = error["message"].as_str().unwrap_or_default();
        let told = words.iter().any(|word| message.contains(word));
        assert!(told, "{template}: {error}");
    }
}

/// None of these costs the fuel that it should.
#[test]
fn work_that_is_no_step_ends_at_the_limit_of_its_process() {
    let server = server();
    let (x, y) = (doubled("x"), doubled("y"));
    let namespace = "{% set ns = namespace() %}";
    for (template, limits) in [
        (
            format!("{namespace}{x}{y}{{{{ ns.x == ns.y }}}}"),
            &["100 ms"][..],
        ),
        (
            format!("{namespace}{x}{y}{{{{ [ns.x, ns.y] | sort | length }}}}"),
            &["100 ms"],
        ),
        (
            format!("{namespace}{x}{{{{ ns.x | pprint | length }}}}"),
            &["100 ms", "512 MiB", "steps"],
        ),
        (
            "{% set t = 'x' * 1000000 %}{{ t.join(t) | length }}".to_owned(),
            &["100 ms", "512 MiB"],
        ),
        (
            "{% set t = 'x' * 200000 %}{{ t.strip('y' * 100000 ~ 'x') }}".to_owned(),
            &["100 ms"],
        ),
        ("{{ 'x' * 1000000 }}".to_owned(), &["1000000 bytes"]),
    ] {
        let error = &render(&server, &template)["error"];
        let message = error["message"].as_str().unwrap_or_default();
        assert!(
            limits.iter().any(|limit| message.contains(limit)),
            "{template:.90}: {error}"
        );
    }
    let answer = render(&server, "x");
    assert_eq!(answer["token_ids"], json!([u32::from(b'x')]));
}
