// SPDX-License-Identifier: Apache-2.0

//! Chat requests: what is taken, what is refused, and how it is said.

use super::*;
use crate::messages::Content;

fn read(body: &str) -> Result<ChatRequest, ApiError> {
    ChatRequest::from_json(body.as_bytes())
}

/// A request with one more member.
fn with(member: &str) -> Result<ChatRequest, ApiError> {
    read(&format!(
        r#"{{"messages":[{{"role":"user","content":"hi"}}],{member}}}"#
    ))
}

fn error(result: Result<ChatRequest, ApiError>) -> (String, String) {
    let error = result.expect_err("must be refused");
    assert_eq!(error.status, 400);
    (error.param.unwrap_or_default(), error.message)
}

#[test]
fn a_minimal_request_has_defaults() {
    let request = read(r#"{"messages":[{"role":"user","content":"hi"}]}"#).expect("valid");
    assert_eq!(request.options.choices(), 1);
    assert!(
        request.add_generation_prompt && !request.continue_final_message && !request.options.stream
    );
    assert_eq!(
        request.messages[0].content,
        Some(Content::Text("hi".into()))
    );
    assert_eq!(request.options.sampling, crate::Sampling::default());
}

#[test]
fn null_is_the_same_as_left_out() {
    let request =
        with(r#""temperature":null,"tools":null,"stop":null,"stream_options":null,"n":null"#)
            .expect("valid");
    assert_eq!(request.options.sampling, crate::Sampling::default());
}

#[test]
fn the_last_of_two_members_of_a_name_wins() {
    assert_eq!(
        with(r#""top_k":1,"top_k":7"#)
            .expect("valid")
            .options
            .sampling
            .top_k,
        Some(7)
    );
    let only_the_last_is_read = with(r#""top_k":"x","top_k":7,"top_k":null"#).expect("valid");
    assert_eq!(only_the_last_is_read.options.sampling.top_k, None);
}

#[test]
fn what_would_be_dropped_is_refused_by_name() {
    for (member, field, words) in [
        (
            r#""chat_template_kwargs":{"x":1,"messages":[]}"#,
            "chat_template_kwargs.messages",
            "is reserved",
        ),
        (
            r#""chat_template_kwargs":{"add_generation_prompt":null}"#,
            "chat_template_kwargs.add_generation_prompt",
            "is reserved",
        ),
        (
            r#""stream":true,"stream_options":{"continuous_usage_stats":true}"#,
            "stream_options.continuous_usage_stats",
            "needs `include_usage: true`",
        ),
        (
            r#""truncate_prompt_tokens":0"#,
            "truncate_prompt_tokens",
            "not 0",
        ),
        (r#""prompt":"x""#, "prompt", "a field of /v1/completions"),
        (r#""suffix":"x""#, "suffix", "a field of /v1/completions"),
        (r#""request_id":"""#, "request_id", "must not be empty"),
        (
            r#""request_id":"a\nb""#,
            "request_id",
            "must not hold control characters",
        ),
        (
            r#""session_id":"\u0085""#,
            "session_id",
            "must not hold control characters",
        ),
    ] {
        let (param, message) = error(with(member));
        assert_eq!(param, field, "{member}");
        assert!(message.contains(words), "{message}");
    }
    for member in [
        r#""prompt":null"#,
        r#""suffix":"""#,
        r#""request_id":"é 1""#,
    ] {
        assert!(with(member).is_ok(), "{member}");
    }
}

#[test]
fn json_that_cannot_be_held_says_why() {
    let deep = format!(
        r#""chat_template_kwargs":{{"a":{}{}}}"#,
        "[".repeat(5000),
        "]".repeat(5000)
    );
    for (member, field, words) in [
        (&deep[..], "chat_template_kwargs", "is nested too deeply"),
        (
            r#""chat_template_kwargs":{"a":1e400}"#,
            "chat_template_kwargs",
            "holds a number that is too large",
        ),
        (
            r#""stop":"\ud83d!""#,
            "stop",
            "holds half of a surrogate pair",
        ),
        (
            r#""messages":[{"role":"user","content":"\udc00"}]"#,
            "messages",
            "holds half of a surrogate pair",
        ),
    ] {
        let (param, message) = error(with(member));
        assert_eq!(param, field);
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn numbers_out_of_range_name_field_value_and_limit() {
    for (member, field, message) in [
        (
            r#""temperature":2.5"#,
            "temperature",
            "`temperature` must be a number from 0 to 2, not 2.5.",
        ),
        (
            r#""temperature":"hot""#,
            "temperature",
            "`temperature` must be a number from 0 to 2, not the string \"hot\".",
        ),
        (
            r#""top_p":0"#,
            "top_p",
            "`top_p` must be a number above 0 and at most 1, not 0.",
        ),
        (
            r#""repetition_penalty":0"#,
            "repetition_penalty",
            "`repetition_penalty` must be a number above 0 and at most 1e38, not 0.",
        ),
        (
            r#""repetition_penalty":3.5e38"#,
            "repetition_penalty",
            "`repetition_penalty` must be a number above 0 and at most 1e38, not 3.5e38.",
        ),
        (
            r#""seed":18446744073709551616"#,
            "seed",
            "`seed` must be a whole number from -9223372036854775808 to 9223372036854775807, not 18446744073709551616.",
        ),
        (
            r#""stream_options":{"include_usage":18446744073709551616}"#,
            "stream_options.include_usage",
            "`stream_options.include_usage` must be true or false, not 18446744073709551616.",
        ),
        (
            r#""n":0"#,
            "n",
            "`n` must be a whole number from 1 to 128, not 0.",
        ),
        (
            r#""n":1.5"#,
            "n",
            "`n` must be a whole number from 1 to 128, not 1.5.",
        ),
        (
            r#""max_tokens":0"#,
            "max_tokens",
            "`max_tokens` must be a whole number from 1 to 4294967295, not 0.",
        ),
        (
            r#""seed":true"#,
            "seed",
            "`seed` must be a whole number from -9223372036854775808 to 9223372036854775807, not true.",
        ),
        (
            r#""stream":"yes""#,
            "stream",
            "`stream` must be true or false, not the string \"yes\".",
        ),
        (
            r#""stop":["a","b","c","d","e"]"#,
            "stop",
            "`stop` must have at most 4 entries, not 5.",
        ),
        (r#""stop":[""]"#, "stop[0]", "`stop[0]` must not be empty."),
        (
            r#""stop":5"#,
            "stop",
            "`stop` must be a string or a list of strings, not 5.",
        ),
        (
            r#""logit_bias":{"x":1}"#,
            "logit_bias",
            "`logit_bias` has the key \"x\", which is not a token id.",
        ),
        (
            r#""logit_bias":{"+5":1}"#,
            "logit_bias",
            "`logit_bias` has the key \"+5\", which is not a token id.",
        ),
        (
            r#""logit_bias":{"05":null}"#,
            "logit_bias.5",
            "`logit_bias.5` must be a number, not null.",
        ),
        (
            r#""stop_token_ids":[-1]"#,
            "stop_token_ids",
            "`stop_token_ids` must be a list of token ids, not the list [-1].",
        ),
        (
            r#""min_tokens":5,"max_tokens":4"#,
            "min_tokens",
            "`min_tokens` (5) must not be above `max_tokens` (4).",
        ),
        (
            r#""top_logprobs":2"#,
            "top_logprobs",
            "`top_logprobs` needs `logprobs: true`.",
        ),
        (
            r#""stream_options":{"include_usage":true}"#,
            "stream_options",
            "`stream_options` is only allowed together with `stream: true`.",
        ),
    ] {
        assert_eq!(
            error(with(member)),
            (field.to_owned(), message.to_owned()),
            "{member}"
        );
    }
}

#[test]
fn integral_floats_are_integers_and_integers_are_floats() {
    let request = with(r#""max_tokens":5.0,"temperature":1"#).expect("valid");
    assert_eq!(
        (
            request.options.sampling.max_tokens,
            request.options.sampling.temperature
        ),
        (Some(5), Some(1.0))
    );
}

#[test]
fn a_field_that_is_known_but_not_served_is_refused_by_name() {
    for member in [
        r#""tools":[{"type":"function","function":{"name":"f"}}]"#,
        r#""response_format":{"type":"json_object"}"#,
        r#""structured_outputs":{"json":{}}"#,
        r#""use_beam_search":true"#,
        r#""reasoning_effort":"high""#,
        r#""echo":true"#,
        r#""store":true"#,
    ] {
        let field = member.split('"').nth(1).expect("a name");
        let refused = with(member).expect_err(member);
        assert_eq!(
            (refused.status, refused.param.as_deref()),
            (400, Some(field))
        );
        assert_eq!(refused.code, Some("unsupported_field"));
        assert!(refused.message.contains(field), "{}", refused.message);
    }
}

#[test]
fn values_that_ask_for_nothing_are_accepted() {
    with(r#""tools":[],"tool_choice":"none","response_format":{"type":"text"},"use_beam_search":false,"store":false,
            "echo":false,"best_of":1,"modalities":["text"],"service_tier":"auto","user":"u","metadata":{"a":"b"}"#)
    .expect("valid");
}

#[test]
fn unknown_fields_are_listed_not_refused() {
    assert_eq!(
        with(r#""no_such_field":1"#).expect("valid").options.unknown,
        ["no_such_field"]
    );
}

#[test]
fn messages_are_checked_with_their_path() {
    for (body, field) in [
        (r#"{}"#, "messages"),
        (r#"{"messages":[]}"#, "messages"),
        (r#"{"messages":"hi"}"#, "messages"),
        (r#"{"messages":[5]}"#, "messages[0]"),
        (r#"{"messages":[{"content":"x"}]}"#, "messages[0].role"),
        (
            r#"{"messages":[{"role":"king","content":"x"}]}"#,
            "messages[0].role",
        ),
        (r#"{"messages":[{"role":"user"}]}"#, "messages[0].content"),
        (
            r#"{"messages":[{"role":"user","content":7}]}"#,
            "messages[0].content",
        ),
        (
            r#"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]}"#,
            "messages[0].content[0].type",
        ),
        (
            r#"{"messages":[{"role":"user","content":[{"type":"text"}]}]}"#,
            "messages[0].content[0].text",
        ),
        (
            r#"{"messages":[{"role":"user","content":"x","name":1}]}"#,
            "messages[0].name",
        ),
        (
            r#"{"messages":[{"role":"assistant","tool_calls":[{}]}]}"#,
            "messages[0].tool_calls[0].function",
        ),
    ] {
        assert_eq!(error(read(body)).0, field, "{body}");
    }
}

#[test]
fn parts_and_earlier_tool_calls_are_read() {
    let request = read(
        r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"},"b"]},
            {"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}}]}]}"#,
    )
    .expect("valid");
    assert_eq!(
        request.messages[0]
            .content
            .as_ref()
            .map(Content::to_text)
            .as_deref(),
        Some("a\nb")
    );
    assert_eq!(
        request.messages[1].tool_calls[0]["function"]["arguments"]["x"],
        1
    );
}

#[test]
fn broken_bodies_say_where() {
    for (body, message) in [
        ("", "The request body ends too early (line 1, column 0)."),
        ("[]", "The request body must be a JSON object."),
        (
            "{\"messages\":",
            "The request body ends too early (line 1, column 12).",
        ),
        (
            "{\"a\" 1}",
            "The request body is not valid JSON (line 1, column 6).",
        ),
        (
            "{} x",
            "The request body is not valid JSON (line 1, column 4).",
        ),
    ] {
        assert_eq!(error(read(body)).1, message, "{body}");
    }
}

#[test]
fn max_completion_tokens_wins_over_max_tokens() {
    let request = with(r#""max_tokens":9,"max_completion_tokens":4"#).expect("valid");
    assert_eq!(request.options.sampling.max_tokens, Some(4));
}

proptest::proptest! {
    #[test]
    fn no_body_panics(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let _ = ChatRequest::from_json(&body);
    }

    #[test]
    fn no_value_of_a_known_field_panics(row in 0..crate::fields::all().count(), value in r#"(null|-?[0-9]{1,20}(\.[0-9]+)?(e[0-9]{1,3})?|"[a-zé]*"|\[[0-9,"]*\]|\{"[a-z0-9]*":[0-9]+\})"#) {
        let _ = with(&format!("\"{}\":{value}", crate::fields::all().nth(row).expect("a row").name));
    }
}
