// SPDX-License-Identifier: Apache-2.0

//! Fields beyond sampling: what each does, streamed as well as whole.

mod common;

use common::answers::{CHAT, COMPLETIONS, body, both, folded, streamed};
use common::client::{post, request};
use common::{Fixture, Setup};
use serde_json::{Value, json};
use vllm_chat::{ChatTemplate, TemplateTokens};
use vllm_server::{Model, render};

#[test]
fn an_echoed_prompt_stands_before_every_answer() {
    let server = Setup::saying("xyz").start();
    for (prompt, expected) in [
        (json!("é? "), vec!["é? xy"]),
        (json!(["ab", "c"]), vec!["abxy", "cxy"]),
        (json!([72, 105]), vec!["Hixy"]),
    ] {
        let answer = both(
            &server,
            COMPLETIONS,
            json!({"prompt": prompt, "echo": true, "max_tokens": 2}),
        );
        let texts: Vec<_> = answer
            .choices
            .values()
            .map(|choice| choice.text.as_str())
            .collect();
        assert_eq!(texts, expected);
        assert_eq!(answer.usage["completion_tokens"], 2 * expected.len());
    }
    let stop = both(
        &server,
        COMPLETIONS,
        json!({"prompt": "y", "echo": true, "stop": ["y"]}),
    );
    assert_eq!(
        stop.choices[&0].text, "yx",
        "stop strings concern the answer alone"
    );
}

#[test]
fn an_echoed_prompt_has_log_probabilities_where_the_answer_has_them() {
    let server = Setup::saying("xyz").start();
    let more = json!({"prompt": "abc", "echo": true, "logprobs": 2, "max_tokens": 2});
    let answer = both(&server, COMPLETIONS, more.clone());
    let rows = &answer.choices[&0].logprobs;
    assert_eq!(rows.len(), 5, "three of the prompt, two of the answer");
    assert_eq!(rows[0], json!(["a", null, null, 0]));
    assert!(rows[1][1].is_number() && rows[1][2].is_object());
    let offsets: Vec<_> = rows.iter().map(|row| row[3].clone()).collect();
    assert_eq!(offsets, [0, 1, 2, 3, 4].map(Value::from));
    assert!(
        answer.choices[&0].prompt_logprobs.is_null(),
        "nobody asked for the other form"
    );
    let mut asked = more;
    asked["prompt_logprobs"] = 1.into();
    let asked = both(&server, COMPLETIONS, asked);
    assert_eq!(
        asked.choices[&0].prompt_logprobs.as_array().map(Vec::len),
        Some(3)
    );
}

#[test]
fn log_probabilities_of_the_prompt_are_streamed_too() {
    let server = Setup::saying("xyz").start();
    let more = json!({"prompt": ["abc", "de"], "prompt_logprobs": 1, "max_tokens": 2, "return_token_ids": true});
    let answer = both(&server, COMPLETIONS, more);
    let lengths = answer
        .choices
        .values()
        .map(|choice| choice.prompt_logprobs.as_array().map(Vec::len));
    assert_eq!(lengths.collect::<Vec<_>>(), [Some(3), Some(2)]);
    let chat = both(
        &server,
        CHAT,
        json!({"prompt_logprobs": 0, "n": 2, "max_tokens": 2}),
    );
    let tokens = chat.usage["prompt_tokens"].as_u64().expect("a count");
    assert_eq!(
        chat.prompt_logprobs
            .as_array()
            .map(|list| list.len() as u64),
        Some(tokens)
    );
    assert!(chat.choices[&1].prompt_logprobs.is_null());
}

#[test]
fn the_likeliest_candidates_are_answered_and_all_are_counted() {
    let server = Setup::saying("x").start();
    let answer = folded(
        &server,
        COMPLETIONS,
        json!({"best_of": 3, "n": 2, "max_tokens": 4}),
    );
    assert_eq!(answer.choices.keys().copied().collect::<Vec<_>>(), [0, 1]);
    assert!(
        answer.choices[&0].logprobs.is_empty(),
        "ranking shows in no field"
    );
    assert_eq!(answer.usage["completion_tokens"], 12);
    assert_eq!(server.counter(|c| &c.added), 3);
    let chat = folded(
        &server,
        CHAT,
        json!({"best_of": 2, "max_tokens": 1, "logprobs": true}),
    );
    assert_eq!(
        (chat.choices.len(), chat.choices[&0].logprobs.len()),
        (1, 1)
    );
    for wrong in [
        json!({"best_of": 1, "n": 2}),
        json!({"best_of": 2, "stream": true}),
        json!({"best_of": 129}),
    ] {
        let refused = post(server.address, COMPLETIONS, &body(COMPLETIONS, &wrong));
        assert_eq!(
            (refused.status, refused.json()["error"]["param"].as_str()),
            (400, Some("best_of")),
            "{wrong}"
        );
    }
}

fn events(server: &Fixture, more: Value) -> Vec<Value> {
    post(server.address, COMPLETIONS, &body(COMPLETIONS, &more)).events()
}

#[test]
fn a_stream_interval_makes_fewer_events_of_the_same_text() {
    let server = Setup::saying("abcdefgh").step_ms(1.0).start();
    let more = json!({"max_tokens": 20, "logprobs": 1, "return_token_ids": true});
    let plain = folded(&server, COMPLETIONS, more.clone());
    let mut wide = more;
    wide["stream_interval"] = 8.into();
    assert_eq!(streamed(&server, COMPLETIONS, wide.clone()), plain);
    wide["stream"] = true.into();
    let counts: Vec<_> = events(&server, wide)
        .iter()
        .map(|event| {
            event["choices"][0]["token_ids"]
                .as_array()
                .map_or(0, Vec::len)
        })
        .collect();
    assert_eq!(counts.iter().sum::<usize>(), 20);
    // The first one and the last one come as they are; the engine may group tokens, never split them.
    let between = &counts[1..counts.len() - 1];
    assert!(between.iter().all(|&count| count >= 8), "{counts:?}");
}

#[test]
fn the_servers_interval_holds_unless_a_request_says_otherwise() {
    let mut setup = Setup::saying("abcdefgh").step_ms(1.0);
    setup.config.stream_interval = 1000;
    let server = setup.start();
    let more = json!({"max_tokens": 30, "stream": true});
    assert!(
        events(&server, more).len() <= 2,
        "the first event and the last one"
    );
}

#[test]
fn what_waits_for_its_interval_comes_before_an_error() {
    let server = Setup::saying("abcdefgh").fault("bad-finish@12").start();
    let more = json!({"max_tokens": 100, "stream": true, "stream_interval": 1000});
    let events = events(&server, more);
    let text: String = events
        .iter()
        .filter_map(|event| event["choices"][0]["text"].as_str())
        .collect();
    assert!(text.len() >= 8, "{events:?}");
    assert!(
        events
            .last()
            .is_some_and(|event| event.get("error").is_some()),
        "{events:?}"
    );
}

#[test]
fn strict_servers_name_the_field_that_nobody_knows() {
    let more = json!({"no_such_field": 1, "max_tokens": 1});
    let lenient = Setup::saying("x").start();
    assert_eq!(post(lenient.address, CHAT, &body(CHAT, &more)).status, 200);
    let mut setup = Setup::saying("x");
    setup.config.strict_fields = true;
    let strict = setup.start();
    for path in [CHAT, COMPLETIONS] {
        let refused = post(strict.address, path, &body(path, &more));
        let error = refused.json()["error"].clone();
        assert_eq!(refused.status, 400);
        assert_eq!(
            (error["param"].as_str(), error["code"].as_str()),
            (Some("no_such_field"), Some("unknown_field"))
        );
        let left_out = json!({"no_such_field": null, "max_tokens": 1});
        assert_eq!(
            post(strict.address, path, &body(path, &left_out)).status,
            200
        );
    }
}

#[test]
fn strict_servers_look_into_objects() {
    let mut setup = Setup::saying("x");
    setup.config.strict_fields = true;
    let (strict, lenient) = (setup.start(), Setup::saying("x").start());
    let part = json!({"type": "text", "text": "a", "no_such": 1});
    for (more, path) in [
        (
            json!({"stream": true, "stream_options": {"no_such": 1}}),
            "stream_options.no_such",
        ),
        (
            json!({"repetition_detection": {"max_pattern_size": 2, "min_count": 9, "no_such": 1}}),
            "repetition_detection.no_such",
        ),
        (
            json!({"messages": [{"role": "user", "content": "a", "no_such": 1}]}),
            "messages[0].no_such",
        ),
        (
            json!({"messages": [{"role": "user", "content": [part]}]}),
            "messages[0].content[0].no_such",
        ),
    ] {
        let body = body(CHAT, &more);
        let refused = post(strict.address, CHAT, &body);
        assert_eq!(refused.status, 400, "{path}");
        assert_eq!(refused.json()["error"]["param"], path);
        assert_eq!(post(lenient.address, CHAT, &body).status, 200, "{path}");
    }
    let known = json!({"role": "assistant", "content": "a", "refusal": null, "annotations": []});
    let more = json!({"messages": [known, {"role": "user", "content": "b", "name": "n"}], "max_tokens": 1});
    assert_eq!(post(strict.address, CHAT, &body(CHAT, &more)).status, 200);
}

#[test]
fn a_thinking_budget_needs_the_marks_of_thoughts() {
    let more = json!({"thinking_token_budget": 5, "max_tokens": 1});
    let server = Setup::saying("x").start();
    let refused = post(server.address, CHAT, &body(CHAT, &more));
    let error = refused.json()["error"].clone();
    assert_eq!(refused.status, 400);
    assert_eq!(error["param"], "thinking_token_budget");
    assert_eq!(error["code"], "unsupported_field");
    let unlimited = json!({"thinking_token_budget": -1, "max_tokens": 1});
    assert_eq!(
        post(server.address, CHAT, &body(CHAT, &unlimited)).status,
        200
    );
    let mut setup = Setup::saying("x");
    setup.config.thinking_budgets = true;
    let knows = setup.start();
    assert_eq!(post(knows.address, CHAT, &body(CHAT, &more)).status, 200);
}

#[test]
fn headers_that_mean_something_are_checked() {
    let server = Setup::saying("x").start();
    let ask = |headers: &str| {
        let body = body(COMPLETIONS, &json!({"max_tokens": 1})).to_string();
        request(
            server.address,
            "POST",
            COMPLETIONS,
            headers,
            body.as_bytes(),
        )
    };
    let good = "X-Vllm-Priority: -2\r\nX-Session-ID: s\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    assert_eq!(ask(good).status, 200);
    let refused = ask("X-Vllm-Priority: soon\r\n");
    assert_eq!(
        (refused.status, refused.json()["error"]["param"].as_str()),
        (400, Some("X-Vllm-Priority"))
    );
}

#[test]
fn allowed_tokens_that_nothing_lets_through_are_refused_by_name() {
    let server = Setup::saying("x").start();
    for more in [
        json!({"allowed_token_ids": [65, 66], "stop_token_ids": [65, 66], "min_tokens": 1}),
        json!({"allowed_token_ids": [257], "min_tokens": 1}),
        json!({"allowed_token_ids": [65, 66], "bad_words": ["A", "B"]}),
    ] {
        let refused = post(server.address, COMPLETIONS, &body(COMPLETIONS, &more));
        assert_eq!(
            (refused.status, refused.json()["error"]["param"].as_str()),
            (400, Some("allowed_token_ids")),
            "{more}"
        );
    }
    let more = json!({"allowed_token_ids": [65, 257], "min_tokens": 1, "max_tokens": 1});
    assert_eq!(
        post(server.address, COMPLETIONS, &body(COMPLETIONS, &more)).status,
        200
    );
    assert_eq!(server.counter(|c| &c.added), 1);
}

#[test]
fn an_assistant_that_said_nothing_is_an_empty_text() {
    let server = Setup::saying("x").start();
    let tokens = |messages: Value| {
        let reply = post(server.address, "/tokenize", &json!({"messages": messages}));
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()["tokens"].clone()
    };
    let said = |content: Value| json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": content}]);
    let silent = tokens(said("".into()));
    assert_eq!(tokens(said(Value::Null)), silent);
    assert_eq!(
        tokens(json!([{"role": "user", "content": "a"}, {"role": "assistant"}])),
        silent
    );
}

#[test]
fn nothing_to_go_on_from_is_told_by_the_field_that_asked() {
    let server = Setup::saying("x").start();
    let more =
        json!({"messages": [{"role": "user", "content": " "}], "continue_final_message": true});
    let error = post(server.address, CHAT, &body(CHAT, &more)).json()["error"].clone();
    assert_eq!(error["param"], "continue_final_message");
    assert_eq!(
        error["message"],
        "`continue_final_message`: the last message has no text to go on from."
    );
}

#[test]
fn an_assistant_that_called_tools_has_no_content_where_templates_can_take_it() {
    let mut model =
        Model::load(&common::model::files(), "tiny".to_owned(), Vec::new()).expect("a model");
    let mut rendered = |template: &str| {
        let compiled = ChatTemplate::compile(template, TemplateTokens::default());
        model.template = Some(compiled.expect("a template"));
        let call = json!({"function": {"name": "f", "arguments": "{}"}});
        let messages = json!([{"role": "assistant", "content": null, "tool_calls": [call]}]);
        let request = json!({"messages": messages}).to_string();
        let tokens =
            render::body(&model, request.as_bytes()).expect("a prompt")["token_ids"].clone();
        let tokens = tokens.as_array().expect("ids").iter();
        tokens
            .map(|id| char::from(id.as_u64().expect("a byte") as u8))
            .collect::<String>()
    };
    assert_eq!(
        rendered("{% if messages[0].content is none %}called{% endif %}"),
        "called"
    );
    assert_eq!(rendered("{{ '<' + messages[0].content + '>' }}"), "<>");
}

#[test]
fn every_event_carries_the_usage_so_far() {
    let server = Setup::saying("xyz").start();
    let options = json!({"include_usage": true, "continuous_usage_stats": true});
    let more = json!({"max_tokens": 3, "stream": true, "stream_options": options, "return_token_ids": true});
    for path in [CHAT, COMPLETIONS] {
        let events = post(server.address, path, &body(path, &more)).events();
        let mut generated = 0;
        for event in &events {
            let ids = event["choices"][0]["token_ids"].as_array();
            generated += ids.map_or(0, Vec::len);
            assert_eq!(event["usage"]["completion_tokens"], generated, "{event}");
            assert!(
                event["usage"]["prompt_tokens"].as_u64() > Some(0),
                "{event}"
            );
        }
        assert_eq!(generated, 3);
    }
}

#[test]
fn the_prompt_alone_is_answered_where_no_token_is_wanted() {
    let server = Setup::saying("xyz").start();
    let more =
        json!({"prompt": ["abc", "de"], "max_tokens": 0, "echo": true, "logprobs": 1, "n": 2});
    let answer = both(&server, COMPLETIONS, more);
    let texts: Vec<_> = answer.choices.values().map(|c| c.text.as_str()).collect();
    assert_eq!(texts, ["abc", "abc", "de", "de"]);
    let first = &answer.choices[&0];
    assert_eq!(first.logprobs.len(), 3, "of the prompt and nothing else");
    assert_eq!(
        (&first.finish[0], &first.stop),
        (&json!("length"), &Value::Null)
    );
    assert_eq!(answer.usage["completion_tokens"], 0);
    let more = json!({"max_tokens": 0, "prompt_logprobs": 1, "return_token_ids": true});
    let answer = both(&server, COMPLETIONS, more);
    let only = &answer.choices[&0];
    assert_eq!((only.text.as_str(), only.ids.len()), ("", 0));
    assert_eq!(only.prompt_logprobs.as_array().map(Vec::len), Some(2));
    for (path, more) in [
        (COMPLETIONS, json!({"max_tokens": 0})),
        (CHAT, json!({"max_tokens": 0, "prompt_logprobs": 1})),
    ] {
        let refused = post(server.address, path, &body(path, &more));
        assert_eq!(
            (refused.status, refused.json()["error"]["param"].as_str()),
            (400, Some("max_tokens"))
        );
    }
}

#[test]
fn tokens_can_be_named_whose_log_probabilities_are_answered() {
    let server = Setup::saying("xyz").start();
    let ids = json!([66, 65, 257]);
    let more = json!({"logprobs": true, "logprob_token_ids": ids, "max_tokens": 2});
    let chat = both(&server, CHAT, more);
    let rows = &chat.choices[&0].logprobs;
    assert_eq!(rows.len(), 2);
    let names: Vec<_> = rows[0]["top_logprobs"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|candidate| candidate["token"].clone())
        .collect();
    assert_eq!(names, ["B", "A", "<|im_end|>"]);
    let more = json!({"logprobs": 0, "logprob_token_ids": ids, "max_tokens": 1});
    let completion = both(&server, COMPLETIONS, more);
    let named = completion.choices[&0].logprobs[0][2].clone();
    assert_eq!(named.as_object().map(|row| row.len()), Some(4), "{named}");
    for (path, more) in [
        (CHAT, json!({"logprob_token_ids": [1]})),
        (
            CHAT,
            json!({"logprob_token_ids": [1], "logprobs": true, "top_logprobs": 1}),
        ),
        (
            COMPLETIONS,
            json!({"logprob_token_ids": [1], "logprobs": 1}),
        ),
        (
            COMPLETIONS,
            json!({"logprob_token_ids": [258], "logprobs": 0}),
        ),
        (
            COMPLETIONS,
            json!({"logprob_token_ids": vec![1; 21], "logprobs": 0}),
        ),
    ] {
        let refused = post(server.address, path, &body(path, &more));
        assert_eq!(
            (refused.status, refused.json()["error"]["param"].as_str()),
            (400, Some("logprob_token_ids")),
            "{more}"
        );
    }
}

#[test]
fn the_usage_says_how_much_of_each_prompt_was_cached() {
    let mut setup = Setup::saying("xyz");
    setup.engine.cached_tokens = 2;
    setup.config.prompt_tokens_details = true;
    let server = setup.start();
    let more = json!({"prompt": ["abc", "de"], "n": 3, "max_tokens": 1});
    let answer = both(&server, COMPLETIONS, more.clone());
    assert_eq!(
        answer.usage["prompt_tokens_details"],
        json!({"cached_tokens": 3}),
        "2 of the first prompt's 3, 1 of the second one's 2"
    );
    let mut setup = Setup::saying("xyz");
    setup.engine.cached_tokens = 2;
    let silent = both(&setup.start(), COMPLETIONS, more);
    assert!(silent.usage.get("prompt_tokens_details").is_none());
}

#[test]
fn a_requests_own_template_renders_where_the_operator_wants_it() {
    let more = json!({"chat_template": "{{ bos_token }}{% for m in messages %}{{ m.content | upper }}{% endfor %}"});
    let closed = Setup::saying("x").start();
    for path in [CHAT, "/tokenize", "/v1/chat/completions/render"] {
        let refused = post(closed.address, path, &body(CHAT, &more));
        let error = refused.json()["error"].clone();
        assert_eq!(
            (refused.status, &error["param"]),
            (400, &json!("chat_template"))
        );
        let message = error["message"].as_str().expect("a message");
        assert!(
            message.contains("--trust-request-chat-template"),
            "{message}"
        );
    }
    let mut setup = Setup::saying("x");
    setup.config.trust_templates = true;
    let server = setup.start();
    let tokens = post(server.address, "/tokenize", &body(CHAT, &more)).json()["tokens"].clone();
    assert_eq!(tokens, json!([72, 73]));
    assert_eq!(post(server.address, CHAT, &body(CHAT, &more)).status, 200);
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
    for (template, words) in [
        ("{% if %}", "does not compile"),
        (
            "{{ raise_exception('no') }}",
            "refuses this conversation: no",
        ),
        (endless, "steps"),
    ] {
        let refused = post(
            server.address,
            CHAT,
            &body(CHAT, &json!({"chat_template": template})),
        );
        assert_eq!(refused.status, 400, "{}", refused.text());
        assert!(refused.text().contains(words), "{}", refused.text());
    }
}
