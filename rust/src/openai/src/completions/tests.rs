// SPDX-License-Identifier: Apache-2.0

//! Completions requests: the four forms of a prompt and the differences from chat.

use super::*;

fn prompt_of(json: &str) -> Result<Prompt, ApiError> {
    let body = format!(r#"{{"prompt":{json}}}"#);
    CompletionRequest::from_json(body.as_bytes()).map(|r| r.prompt)
}

#[test]
fn the_four_forms_of_a_prompt() {
    assert_eq!(prompt_of(r#""hi""#), Ok(Prompt::Texts(vec!["hi".into()])));
    assert_eq!(
        prompt_of(r#"["a", "b"]"#),
        Ok(Prompt::Texts(vec!["a".into(), "b".into()]))
    );
    assert_eq!(prompt_of("[1,2]"), Ok(Prompt::Ids(vec![vec![1, 2]])));
    assert_eq!(
        prompt_of("[ [1], [2,3]]"),
        Ok(Prompt::Ids(vec![vec![1], vec![2, 3]]))
    );
}

#[test]
fn other_prompts_are_refused_with_their_path() {
    for (json, field) in [
        ("[]", "prompt"),
        ("5", "prompt"),
        ("[1,\"a\"]", "prompt"),
        ("[[]]", "prompt"),
        ("[[1],[]]", "prompt[1]"),
        ("[4294967295]", "prompt[0]"),
        ("[-1]", "prompt"),
    ] {
        let error = prompt_of(json).expect_err(json);
        assert_eq!(
            error.param.as_deref(),
            Some(field),
            "{json}: {}",
            error.message
        );
    }
}

#[test]
fn left_out_fields_follow_openai() {
    let request = CompletionRequest::from_json(br#"{"prompt":"x","logprobs":0}"#).expect("valid");
    assert_eq!(
        request.options.sampling.max_tokens,
        Some(DEFAULT_MAX_TOKENS)
    );
    assert_eq!(request.options.logprobs, Some(0));
}

#[test]
fn too_many_choices_over_all_prompts_are_refused() {
    let prompts = vec!["\"x\""; 1024].join(",");
    let body = format!(r#"{{"prompt":[{prompts}],"n":2}}"#);
    let error = CompletionRequest::from_json(body.as_bytes()).expect_err("2048 choices");
    assert_eq!(error.param.as_deref(), Some("n"));
}
