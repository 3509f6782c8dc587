// SPDX-License-Identifier: Apache-2.0

//! Bodies of requests: each is served or refused with a client's status and a plain message.

use std::sync::OnceLock;

use vllm_openai::tokenize::{DetokenizeRequest, TokenizeRequest};
use vllm_openai::{ApiError, GenerateRequest};
use vllm_server::{Model, render};

use crate::model;

fn served() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| {
        Model::load(&model::files(), "tiny".to_owned(), Vec::new()).expect("a sound model")
    })
}

/// Every route's reader takes the same bytes.
pub(crate) fn check(data: &[u8]) {
    answer("render", render::body(served(), data).map(drop));
    answer("generate", GenerateRequest::from_json(data).map(drop));
    answer("tokenize", TokenizeRequest::from_json(data).map(drop));
    answer("detokenize", DetokenizeRequest::from_json(data).map(drop));
}

fn answer(route: &str, result: Result<(), ApiError>) {
    let Err(error) = result else { return };
    assert!((400..500).contains(&error.status), "{route}: {error:?}");
    assert!(
        !error.message.is_empty() && error.message.len() < 4096,
        "{route}: {error:?}"
    );
    // The message may quote the body, never carry lines of its own making into a log.
    let parsed: Result<serde_json::Value, _> = serde_json::from_str(&error.to_json());
    assert!(parsed.is_ok(), "{route}: {error:?}");
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    [
        r#"{"model":"tiny","messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"hi"}]},{"role":"assistant","content":"x","name":"n"}],"temperature":0.5,"top_p":0.9,"n":2,"stream":true,"stream_options":{"include_usage":true},"logprobs":true,"top_logprobs":3,"seed":-1}"#,
        r#"{"prompt":["a",[1,2,3]],"max_tokens":5,"echo":true,"logprobs":2,"best_of":2,"stop":["a","b"],"suffix":null,"user":"u"}"#,
        r#"{"prompt":"x","stop_token_ids":[1],"bad_words":["b"],"logit_bias":{"7":-1.5},"allowed_token_ids":[1,2],"min_p":0.1,"top_k":5,"repetition_penalty":1.1,"min_tokens":1,"ignore_eos":true,"skip_special_tokens":false,"include_stop_str_in_output":true,"truncate_prompt_tokens":2,"prompt_logprobs":1}"#,
        r#"{"messages":[{"role":"user","content":"x"}],"chat_template_kwargs":{"enable_thinking":false,"n":1e9},"documents":[{"title":"t","text":"x"}],"add_generation_prompt":false,"continue_final_message":true,"request_id":"r","priority":1,"cache_salt":"c"}"#,
        r#"{"messages":[{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\":[1]}"}}]},{"role":"tool","tool_call_id":"1","content":"r"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],"tool_choice":"none","response_format":{"type":"json_schema","json_schema":{"name":"a","schema":{}}}}"#,
        r#"{"token_ids":[1,2,3],"sampling_params":{"max_tokens":20,"n":2,"stop":["x"],"logprobs":1},"stream":false,"features":null}"#,
        r#"{"tokens":[104,105],"model":"tiny"}"#,
        r#"{"prompt":"hi","add_special_tokens":false,"return_token_strs":true}"#,
        r#"{"model":"\ud83d\ude42\u0000","messages":[{"role":"user","content":"\ud800"}],"seed":18446744073709551616,"temperature":1e400}"#,
    ]
    .map(|body| body.as_bytes().to_vec())
    .to_vec()
}
