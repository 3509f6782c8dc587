// SPDX-License-Identifier: Apache-2.0

//! Chat and completions: what is streamed equals what is not, and every choice ends once.

mod common;

use common::answers::{CHAT, COMPLETIONS, body, both};
use common::client::post;
use common::{Setup, eventually};
use serde_json::json;

/// Two, three and four bytes per character: every token is one byte.
const TEXT: &str = "Grüße, 日本 🙂 \"quoted\" \\ line\nend. ";

#[test]
fn streamed_equals_folded_over_split_characters() {
    for step_ms in [0.0, 1.0] {
        let server = Setup::saying(TEXT)
            .step_ms(step_ms)
            .output_len(TEXT.len() as u64 + 3)
            .start();
        for path in [CHAT, COMPLETIONS] {
            let answer = both(&server, path, json!({"max_tokens": 1000}));
            let choice = &answer.choices[&0];
            // The stop token's text is hidden: the last of the tokens does not show.
            assert_eq!(choice.text, format!("{TEXT}Gr"));
            assert_eq!(choice.finish, [json!("stop")]);
            assert_eq!(answer.usage["completion_tokens"], TEXT.len() + 3);
        }
    }
}

#[test]
fn a_character_cut_off_by_the_limit_shows_as_a_replacement_character() {
    let server = Setup::saying("é").start();
    let answer = both(&server, COMPLETIONS, json!({"max_tokens": 3}));
    assert_eq!(answer.choices[&0].text, "é\u{fffd}");
    assert_eq!(answer.choices[&0].finish, [json!("length")]);
}

#[test]
fn stop_strings_match_over_any_boundary_and_abort_in_the_engine() {
    for step_ms in [0.0, 1.0] {
        let server = Setup::saying("hello world, ").step_ms(step_ms).start();
        for (path, aborted) in [(CHAT, 2), (COMPLETIONS, 4)] {
            let answer = both(
                &server,
                path,
                json!({"stop": ["zzz", "o w", "world"], "max_tokens": 4000}),
            );
            let choice = &answer.choices[&0];
            assert_eq!(
                (choice.text.as_str(), &choice.stop),
                ("hell", &json!("o w"))
            );
            assert_eq!(choice.finish, [json!("stop")]);
            assert_eq!(answer.usage["completion_tokens"], 7);
            // An engine that never waits may reach its limit before it is told.
            eventually("the engine is told", || {
                step_ms == 0.0 || server.counter(|c| &c.aborted) == aborted
            });
        }
        eventually("nothing runs", || server.counter(|c| &c.open) == 0);
    }
}

#[test]
fn stop_strings_can_stay_and_wait_for_min_tokens() {
    let server = Setup::saying("abcdef").start();
    let include = json!({"stop": "cd", "include_stop_str_in_output": true, "max_tokens": 100});
    assert_eq!(both(&server, COMPLETIONS, include).choices[&0].text, "abcd");
    let later = json!({"stop": "cd", "min_tokens": 5, "max_tokens": 100});
    assert_eq!(
        both(&server, COMPLETIONS, later).choices[&0].text,
        "abcdefab"
    );
}

#[test]
fn text_held_back_for_a_stop_string_is_not_lost_at_the_end() {
    let server = Setup::saying("abc").start();
    let answer = both(
        &server,
        COMPLETIONS,
        json!({"stop": "bcX", "max_tokens": 3}),
    );
    assert_eq!(answer.choices[&0].text, "abc");
}

#[test]
fn n_choices_are_requests_of_their_own() {
    let server = Setup::saying("xyz").step_ms(1.0).start();
    for (path, added) in [(CHAT, 6), (COMPLETIONS, 12)] {
        let answer = both(&server, path, json!({"n": 3, "max_tokens": 5, "seed": 7}));
        assert_eq!(answer.choices.keys().collect::<Vec<_>>(), [&0, &1, &2]);
        assert!(answer.choices.values().all(|choice| choice.text == "xyzxy"));
        assert_eq!(answer.usage["completion_tokens"], 15);
        assert_eq!(server.counter(|c| &c.added), added);
    }
}

#[test]
fn several_prompts_have_their_own_choices() {
    let server = Setup::saying("ok").start();
    let answer = both(
        &server,
        COMPLETIONS,
        json!({"prompt": ["a", "bcd"], "n": 2, "max_tokens": 2, "return_token_ids": true}),
    );
    assert_eq!(answer.choices.len(), 4);
    assert_eq!(answer.usage["prompt_tokens"], 4);
    assert!(
        answer
            .choices
            .values()
            .all(|choice| choice.ids == [json!(111), json!(107)])
    );
    let whole = post(
        server.address,
        COMPLETIONS,
        &json!({"prompt": [[97], [98, 99]], "max_tokens": 1, "return_token_ids": true}),
    )
    .json();
    assert_eq!(whole["choices"][1]["prompt_token_ids"], json!([98, 99]));
}

#[test]
fn logprobs_are_the_same_streamed_and_not_with_exact_bytes() {
    let server = Setup::saying("é!").start();
    let chat = both(
        &server,
        CHAT,
        json!({"logprobs": true, "top_logprobs": 2, "max_tokens": 3}),
    );
    let entries = &chat.choices[&0].logprobs;
    assert_eq!(entries.len(), 3);
    assert_eq!(entries[0]["bytes"], json!([0xc3]));
    assert_eq!(entries[0]["token"], json!("\u{fffd}"));
    assert_eq!(entries[2]["token"], json!("!"));
    assert_eq!(entries[2]["top_logprobs"].as_array().map(Vec::len), Some(2));
    let completion = both(
        &server,
        COMPLETIONS,
        json!({"logprobs": 1, "max_tokens": 3}),
    );
    assert_eq!(completion.choices[&0].logprobs.len(), 3);
    assert_eq!(
        completion.choices[&0].logprobs[2][3],
        json!(2),
        "offset in characters"
    );
    let none = both(&server, CHAT, json!({"max_tokens": 3}));
    assert!(none.choices[&0].logprobs.is_empty());
}

#[test]
fn prompt_logprobs_begin_with_null() {
    let server = Setup::saying("x").start();
    let json = post(
        server.address,
        COMPLETIONS,
        &json!({"prompt": "abc", "prompt_logprobs": 1, "max_tokens": 1}),
    )
    .json();
    let list = json["choices"][0]["prompt_logprobs"]
        .as_array()
        .expect("a list")
        .clone();
    assert_eq!(list.len(), 3);
    assert!(list[0].is_null() && list[1].is_object());
}

#[test]
fn the_first_chunk_of_each_choice_says_who_speaks_and_done_ends_the_stream() {
    let server = Setup::saying("a").start();
    let reply = post(
        server.address,
        CHAT,
        &body(CHAT, &json!({"stream": true, "max_tokens": 2, "n": 2})),
    );
    assert_eq!(
        reply.headers["content-type"],
        "text/event-stream; charset=utf-8"
    );
    let events = reply.events();
    for index in 0..2 {
        let mut own = events
            .iter()
            .filter(|event| event["choices"][0]["index"] == index);
        assert_eq!(
            own.next().expect("a first chunk")["choices"][0]["delta"],
            json!({"role": "assistant", "content": ""})
        );
    }
    assert!(
        events
            .iter()
            .all(|event| event["id"] == events[0]["id"] && event["model"] == "tiny")
    );
    assert!(
        events.iter().all(|event| event.get("usage").is_none()),
        "nobody asked for it"
    );
}

#[test]
fn every_chunk_carries_the_usage_so_far_when_asked() {
    let server = Setup::saying("a").step_ms(1.0).start();
    let options = json!({"include_usage": true, "continuous_usage_stats": true});
    let more = json!({"stream": true, "stream_options": options, "max_tokens": 4});
    let events = post(server.address, COMPLETIONS, &body(COMPLETIONS, &more)).events();
    let counts: Vec<_> = events
        .iter()
        .map(|event| {
            event["usage"]["completion_tokens"]
                .as_u64()
                .expect("a count")
        })
        .collect();
    assert!(
        counts.is_sorted() && counts.last() == Some(&4),
        "{counts:?}"
    );
}
