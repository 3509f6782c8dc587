// SPDX-License-Identifier: Apache-2.0

//! What strangers can make the frontend do before an engine is asked: a bound on work, not on time.
//!
//! Work is what is allocated, counted by the allocator of this test binary, and what a template executes, counted by
//! its fuel. The processor time of the costliest body is printed (`--nocapture`) and judged by nobody.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use serde_json::{Value, json};
use vllm_server::{Model, render};

thread_local! {
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: everything is passed on to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = BYTES.try_with(|bytes| bytes.set(bytes.get() + layout.size()));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Most bytes allocated per byte of a body. A byte of JSON may be a token of text (a dozen bytes of it between
/// encoder and copies) or an entry of a list (a `Value` of 72 bytes in a vector that doubles).
const PER_BYTE: usize = 600;
/// What the smallest body costs.
const BASE: usize = 1 << 20;
/// Bodies are filled up to this size.
const SIZE: usize = 64 << 10;

fn model() -> Model {
    Model::load(&common::model::files(), "tiny".to_owned(), Vec::new()).expect("a sound model")
}

/// `unit` as often as it fits, with commas between.
fn filled(unit: &str, size: usize) -> String {
    vec![unit; size / (unit.len() + 1)].join(",")
}

fn nested(open: &str, close: &str, size: usize) -> String {
    let depth = size / (open.len() + close.len());
    format!("{}1{}", open.repeat(depth), close.repeat(depth))
}

/// Values that are as much work as their size allows, whatever reads them.
fn values(size: usize) -> Vec<String> {
    let numbered: Vec<_> = (0..size / 12).map(|at| format!("\"{at}\":1")).collect();
    vec![
        nested("[", "]", size),
        nested("{\"a\":", "}", size),
        format!("[{}]", filled("\"a\"", size)),
        format!("[{}]", filled("1", size)),
        format!("[{}]", filled("[]", size)),
        format!("[{}]", filled("{}", size)),
        format!("[{}]", filled("[1]", size)),
        format!("{{{}}}", numbered.join(",")),
        format!("{{{}}}", filled("\"a\":1", size)),
        format!("\"{}\"", "a".repeat(size)),
        format!("\"{}\"", " ".repeat(size)),
        format!("\"{}\"", "\\u0000".repeat(size / 6)),
        format!("\"{}\"", "\u{1f642}".repeat(size / 4)),
        format!("\"{}\"", "<|im_start|>".repeat(size / 12)),
        format!("\"{}\"", "{{ a }}{% for b in c %}".repeat(size / 23)),
        "9".repeat(size),
        format!("1e{}", "9".repeat(size.min(1000))),
        format!("0.{}", "1".repeat(size)),
    ]
}

/// Messages that are more than a value of one kind.
fn conversations(size: usize) -> Vec<String> {
    let said = |content: &str| format!("{{\"role\":\"user\",\"content\":{content}}}");
    let arguments = json!(nested("[", "]", size.min(120))).to_string();
    let call = format!("{{\"function\":{{\"name\":\"f\",\"arguments\":{arguments}}}}}");
    let caller = format!(
        "{{\"role\":\"assistant\",\"tool_calls\":[{}]}}",
        filled(&call, size)
    );
    vec![
        format!("[{}]", filled(&said("\"\""), size)),
        format!("[{}]", filled(&said("[]"), size)),
        format!("[{}]", said(&format!("[{}]", filled("\"a\"", size)))),
        format!(
            "[{}]",
            said(&format!(
                "[{}]",
                filled("{\"type\":\"text\",\"text\":\"\"}", size)
            ))
        ),
        format!("[{}]", said(&format!("\"{}\"", "a".repeat(size)))),
        format!("[{caller},{}]", said("\"x\"")),
    ]
}

const FIELDS: &[&str] = &[
    "messages",
    "prompt",
    "stop",
    "stop_token_ids",
    "bad_words",
    "logit_bias",
    "allowed_token_ids",
    "chat_template_kwargs",
    "documents",
    "stream_options",
    "tools",
    "response_format",
    "structured_outputs",
    "metadata",
    "model",
    "n",
    "best_of",
    "max_tokens",
    "temperature",
    "seed",
    "request_id",
    "unknown",
];

/// Every value in every field, with what else a request needs; and bodies whose members are the matter.
fn bodies(size: usize) -> Vec<String> {
    let base = [
        ("messages", "[{\"role\":\"user\",\"content\":\"x\"}]"),
        ("prompt", "\"x\""),
    ];
    let body = |required: (&str, &str), field: &str, value: &str| {
        if required.0 == field {
            return format!("{{\"{field}\":{value}}}");
        }
        format!("{{\"{}\":{},\"{field}\":{value}}}", required.0, required.1)
    };
    let values = values(size);
    let mut bodies = Vec::new();
    for required in base {
        for field in FIELDS {
            bodies.extend(values.iter().map(|value| body(required, field, value)));
        }
    }
    for messages in conversations(size) {
        bodies.push(format!("{{\"messages\":{messages}}}"));
        bodies.push(format!(
            "{{\"messages\":{messages},\"continue_final_message\":true}}"
        ));
    }
    let words: Vec<_> = (0..1024)
        .map(|at| format!("\"{}\"", at.to_string().repeat(10)))
        .collect();
    bodies.push(body(
        base[1],
        "bad_words",
        &format!("[{}]", words.join(",")),
    ));
    let stop = format!("\"{}\"", "ab".repeat(512));
    bodies.push(body(
        base[1],
        "stop",
        &format!("[{}]", [&stop[..]; 4].join(",")),
    ));
    bodies.push(format!(
        "{{\"prompt\":[{}],\"n\":128}}",
        filled("\"a\"", 32)
    ));
    bodies.push(format!("{{{}}}", filled("\"prompt\":\"x\"", size)));
    bodies.push("{".repeat(size));
    bodies.push("\"".to_owned());
    bodies
}

/// Bytes allocated and nanoseconds of processor time for one body.
fn cost(model: &Model, body: &str) -> (usize, u64) {
    let (bytes, time) = (BYTES.get(), processor_time());
    // Most are refused; what matters is what it took to find that out.
    let _ = render::body(model, body.as_bytes());
    (BYTES.get() - bytes, processor_time() - time)
}

fn processor_time() -> u64 {
    // SAFETY: an all-zero timespec is valid, and the call only fills it.
    let now = unsafe {
        let mut now: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now);
        now
    };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[test]
fn no_body_makes_much_work() {
    let model = model();
    let bodies = bodies(SIZE);
    assert!(bodies.len() > 800);
    let mut worst = (0, 0, String::new());
    for body in &bodies {
        let (bytes, time) = cost(&model, body);
        let most = BASE + PER_BYTE * body.len();
        assert!(
            bytes <= most,
            "{bytes} bytes allocated for {} bytes: {:.120}",
            body.len(),
            body
        );
        if time > worst.1 {
            worst = (bytes, time, format!("{body:.100}"));
        }
    }
    println!(
        "{} bodies; costliest: {} bytes, {} us: {}",
        bodies.len(),
        worst.0,
        worst.1 / 1000,
        worst.2
    );
}

#[test]
fn twice_the_body_is_at_most_about_twice_the_work() {
    let model = model();
    let size = SIZE / 4;
    for (half, whole) in bodies(size / 2).iter().zip(bodies(size)) {
        let (small, large) = (cost(&model, half).0, cost(&model, &whole).0);
        // Vectors double: a step of a power of two more than twice.
        assert!(
            large <= 5 * small + BASE,
            "{small} and {large} bytes: {whole:.120}"
        );
    }
}

#[test]
fn half_a_million_stop_strings_are_counted_and_not_kept() {
    let model = model();
    for field in ["stop", "bad_words"] {
        let list = format!("[{}]", vec!["\"a\""; 500_000].join(","));
        let body = format!("{{\"prompt\":\"x\",\"{field}\":{list}}}");
        let error = render::body(&model, body.as_bytes()).expect_err("refused");
        assert!(error.message.contains("not 500000"), "{}", error.message);
        let (bytes, _) = cost(&model, &body);
        assert!(
            bytes < body.len() / 4,
            "{bytes} bytes allocated for {}",
            body.len()
        );
    }
    let ids: Vec<_> = (0..500_000).map(|id| format!("\"{id}\":1")).collect();
    let body = format!("{{\"prompt\":\"x\",\"logit_bias\":{{{}}}}}", ids.join(","));
    let (bytes, _) = cost(&model, &body);
    assert!(
        bytes < body.len() / 4,
        "{bytes} bytes allocated for {}",
        body.len()
    );
    let members = format!("{{{}}}", filled("\"x\":1", 4 << 20));
    let (bytes, _) = cost(&model, &members);
    assert!(
        bytes < members.len() / 4,
        "{bytes} bytes allocated for {}",
        members.len()
    );
}

/// A template that does as much as its variables ask for.
const GREEDY: &str = "{% for i in range(n | default(1) | int) %}{% for j in range(n | default(1) | int) %}\
    {% set x = i * j %}{% endfor %}{% endfor %}{% for t in things | default([]) %}{{ things | tojson }}{% endfor %}\
    {% for m in messages %}{{ m.content * (times | default(1)) }}{% endfor %}";

#[test]
fn a_template_that_is_led_astray_runs_out_of_fuel() {
    let mut model = model();
    let tokens = vllm_chat::TemplateTokens::default();
    model.template = Some(vllm_chat::ChatTemplate::compile(GREEDY, tokens).expect("it compiles"));
    for kwargs in [
        json!({"n": 90_000}),
        json!({"things": vec![0; 20_000]}),
        json!({"times": 1_000_000}),
        json!({"n": 1e9}),
    ] {
        let message = json!([{"role": "user", "content": "y".repeat(1000)}]);
        let body = json!({"messages": message, "chat_template_kwargs": kwargs}).to_string();
        let error = render::body(&model, body.as_bytes())
            .map(drop)
            .expect_err("refused");
        assert_eq!(
            error.param.as_deref(),
            Some("messages"),
            "{}",
            error.message
        );
        let (bytes, time) = cost(&model, &body);
        println!(
            "{} us, {bytes} bytes: {}: {body:.120}",
            time / 1000,
            error.message
        );
        // 4 million steps of fuel, one for 64 bytes of text; a text is copied on its way.
        assert!(
            bytes < 4_000_000 * 64 * 2,
            "{bytes} bytes allocated: {body:.80}"
        );
    }
}

#[test]
fn log_probabilities_of_prompts_are_bounded_over_all_choices() {
    let server = common::Setup::saying("x").start();
    // 128 choices of one token with the actual one and 15 candidates each: 2,048 per token of the prompt.
    let body = |tokens: usize, more: &str| {
        let mut body = json!({"prompt": "a".repeat(tokens), "n": 128, "max_tokens": 1});
        body.as_object_mut()
            .expect("an object")
            .extend(serde_json::from_str::<serde_json::Map<_, _>>(more).expect("JSON"));
        body
    };
    for (field, more) in [
        ("prompt_logprobs", r#"{"prompt_logprobs": 15}"#),
        ("logprobs", r#"{"echo": true, "logprobs": 15}"#),
    ] {
        for stream in [false, true] {
            let send = |tokens| {
                let mut body = body(tokens, more);
                body["stream"] = stream.into();
                common::client::post(server.address, "/v1/completions", &body)
            };
            let most = send(128);
            assert_eq!(most.status, 200, "{}", most.text());
            assert!(!most.text().contains("\"error\""), "{field}");
            let more = send(129);
            assert_eq!(more.status, 400, "{}", more.text());
            let error = &more.json()["error"];
            assert_eq!(error["param"], field);
            let message = error["message"].as_str().expect("a message");
            assert!(
                message.contains("264192") && message.contains("262144"),
                "{message}"
            );
        }
    }
}

#[test]
fn a_sound_body_is_served_by_all_of_this() {
    let body: Value = json!({"prompt": "ab", "max_tokens": 1});
    let rendered = render::body(&model(), body.to_string().as_bytes()).expect("sound");
    assert_eq!(rendered[0]["token_ids"], json!([97, 98]));
}

/// Templates of clients (`--trust-request-chat-template`) that ask for much and are stopped by their fuel. Not all are:
/// what costs no fuel ends with the process that renders, which the command's tests show.
const BOMBS: &[&str] = &[
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{{ 'x' * 1000000000 }}",
    "{{ 'x' * 9999999999999999999999 }}",
    "{% set n = namespace(a='x') %}{% for i in range(64) %}{% set n.a = n.a ~ n.a %}{% endfor %}",
    "{% set n = namespace(a='x') %}{% for i in range(64) %}{% set n.a = n.a + n.a %}{% endfor %}",
    "{% set n = namespace(a='x') %}{% for i in range(64) %}{% set n.a = [n.a, n.a] | join %}{% endfor %}",
    "{% set n = namespace(a='x') %}{% for i in range(64) %}{% set n.a = n.a | replace('x', 'xxxx') %}{% endfor %}",
    "{% set n = namespace(a='x') %}{% for i in range(64) %}{% set n.a = n.a.replace('x', 'xxxx') %}{% endfor %}",
    "{% set a = 'x' * 60000 %}{% for i in range(99999) %}{% set b = a.split('x') %}{% endfor %}",
    "{{ '{:1000000000}'.format(1) }}",
    "{% set n = namespace(a='x') %}{% for i in range(64) %}{% set n.a %}{{ n.a }}{{ n.a }}{% endset %}{% endfor %}",
    "{% set n = namespace(a=[1]) %}{% for i in range(64) %}{% set n.a = [n.a, n.a] %}{% endfor %}{{ n.a | tojson }}",
    "{% set n = namespace(a=[1]) %}{% for i in range(64) %}{% set n.a = [n.a, n.a] %}{% endfor %}{{ n.a == n.a }}",
    "{{ range(99999) | list | tojson }}{{ range(99999) | sort | reverse | unique | list | string }}",
    "{{ [1] * 1000000000 }}",
    "{{ ('x' * 100000) | indent(100000) }}",
    "{{ ('x\\n' * 100000) | indent(1000000) }}",
    "{{ 'x' | center(1000000000) }}",
    "{{ 'x'.center(1000000000) }}{{ 'x'.ljust(1000000000) }}{{ 'x'.zfill(1000000000) }}",
    "{{ '%1000000000d' | format(1) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ 2 ** 100000000 }}{{ 10 ** 38 }}",
    "{% macro f(x) %}{{ f(x) }}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "{% for i in [1] recursive %}{{ loop([1, 1]) }}{% endfor %}",
    "{{ range(99999) | batch(1) | map('tojson') | join }}",
    "{% for i in range(99999) %}{% set x = range(99999) | list %}{% endfor %}",
    "{% for i in range(99999) %}{{ range(99999) | length }}{{ (range(99999) | list).count(1) }}{% endfor %}",
    "{% for i in range(99999) %}{{ 99999 in range(99999) }}{% endfor %}",
    "{% for i in range(99999) %}{{ range(99999) | max }}{{ range(99999) | sum }}{% endfor %}",
    "{% set a = 'x' * 60000 %}{% for i in range(99999) %}{{ a.find('y') }}{% endfor %}",
    "{% set a = 'x' * 60000 %}{% for i in range(99999) %}{{ 'y' in a }}{{ a == a ~ '' }}{% endfor %}",
    "{% set a = 'x' * 60000 %}{% for i in range(99999) %}{% set b = a | upper %}{% set b = a.upper() %}{% endfor %}",
    "{% set a = 'x' * 60000 %}{% for i in range(99999) %}{% set b = a.strip() %}{% set b = a | trim %}{% endfor %}",
];

#[test]
fn most_work_of_a_clients_template_is_bounded() {
    let model = model();
    for template in BOMBS {
        let message = json!([{"role": "user", "content": "y"}]);
        let body = json!({"messages": message, "chat_template": template}).to_string();
        let (bytes, time) = cost(&model, &body);
        println!("{} us, {bytes} bytes: {template:.100}", time / 1000);
        assert!(
            bytes < 4_000_000 * 64 * 3,
            "{bytes} bytes allocated: {template}"
        );
    }
}
