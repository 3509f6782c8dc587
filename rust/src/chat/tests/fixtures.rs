// SPDX-License-Identifier: Apache-2.0

//! Renderings equal those of Jinja2 as Transformers sets it up. `expected.py` made the results in `fixtures/*.out`.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};
use vllm_chat::{
    ChatInput, ChatTemplate, Content, ContentPart, Message, RenderError, TemplateTokens,
};
use vllm_model_files::ModelFiles;

fn message(json: &Value) -> Message {
    let mut extra = json.as_object().expect("a message").clone();
    let role = extra.shift_remove("role").expect("a role");
    let content = match extra.shift_remove("content") {
        Some(Value::String(text)) => Content::Text(text),
        Some(Value::Array(parts)) => {
            let text =
                |part: &Value| ContentPart::Text(part["text"].as_str().expect("text").into());
            Content::Parts(parts.iter().map(text).collect())
        }
        _ => Content::None,
    };
    Message {
        role: role.as_str().expect("a role").into(),
        content,
        extra,
    }
}

fn render(given: &Value, source: &str) -> Result<String, RenderError> {
    let text = |name: &str| given[name].as_str().map(str::to_owned);
    let tokens = TemplateTokens {
        bos: text("bos_token"),
        eos: text("eos_token"),
        ..Default::default()
    };
    let template = ChatTemplate::compile(source, tokens).expect("compiles");
    let messages: Vec<Message> = given["messages"]
        .as_array()
        .expect("messages")
        .iter()
        .map(message)
        .collect();
    template.render(&ChatInput {
        messages: &messages,
        tools: given["tools"].as_array().map(Vec::as_slice),
        documents: given["documents"].as_array().map(Vec::as_slice),
        add_generation_prompt: given["add_generation_prompt"] == true,
        continue_final_message: false,
        template_kwargs: given["template_kwargs"].as_object(),
    })
}

fn check(path: &Path) -> Result<(), String> {
    let text = fs::read_to_string(path).expect("reads");
    let (given, source) = text.split_once("\n---\n").expect("a line of dashes");
    let given: Value = serde_json::from_str(given).expect("JSON");
    let got = match render(&given, source) {
        Ok(prompt) => format!("rendered\n{prompt}"),
        Err(RenderError::Refused { message }) => format!("refused\n{message}"),
        Err(RenderError::Failed { .. }) => "failed\n".to_owned(),
        Err(other) => other.to_string(),
    };
    let expected = fs::read_to_string(path.with_extension("out")).expect("a result");
    if got == expected {
        return Ok(());
    }
    let reason = render(&given, source)
        .err()
        .map_or(String::new(), |error| error.to_string());
    let line = got
        .lines()
        .zip(expected.lines())
        .find(|(got, expected)| got != expected);
    Err(format!(
        "{}: {reason}\n  got and expected: {line:#?}\n  whole: {got:?}",
        path.display()
    ))
}

#[test]
fn every_fixture_renders_as_jinja2_does() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .expect("fixtures")
        .map(|entry| entry.expect("entry").path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    assert!(paths.len() >= 28, "only {} fixtures", paths.len());
    let faults: Vec<String> = paths.iter().filter_map(|path| check(path).err()).collect();
    assert!(
        faults.is_empty(),
        "{} fixtures differ:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

/// Templates from elsewhere, by hand: `VLLM_TEST_TEMPLATES` names a folder of fixtures with results.
#[test]
#[ignore = "needs a folder named by VLLM_TEST_TEMPLATES"]
fn listed_templates() {
    let folder = std::env::var("VLLM_TEST_TEMPLATES").expect("VLLM_TEST_TEMPLATES");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .expect("fixtures")
        .map(|entry| entry.expect("entry").path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    let check = |path: &std::path::PathBuf| {
        std::panic::catch_unwind(|| check(path))
            .unwrap_or(Err(format!("{}: panic", path.display())))
            .err()
    };
    let faults: Vec<String> = paths.iter().filter_map(check).collect();
    println!(
        "{} of {} differ\n{}",
        faults.len(),
        paths.len(),
        faults.join("\n")
    );
}

#[test]
fn the_default_model_renders_its_own_template() {
    let Some(path) = std::env::var_os("VLLM_TEST_MODEL")
        .map(Into::into)
        .or_else(cached_model)
    else {
        eprintln!(
            "skipped: the default model is not on this machine (VLLM_TEST_MODEL, or fetched by `nox -s serve`)"
        );
        return;
    };
    let files = ModelFiles::open(path).expect("opens");
    let template = ChatTemplate::from_model(&files)
        .expect("compiles")
        .expect("has a template");
    let messages = [Message::text("user", "What is the capital of France?")];
    let input = ChatInput {
        messages: &messages,
        add_generation_prompt: true,
        ..Default::default()
    };
    let prompt = template.render(&input).expect("renders");
    assert!(prompt.starts_with("<|im_start|>system\n"), "{prompt}");
    assert!(
        prompt.ends_with(
            "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
        ),
        "{prompt}"
    );
}

/// Where the Python package keeps the model it fetched.
fn cached_model() -> Option<std::path::PathBuf> {
    let home = || Some(Path::new(&std::env::var_os("HOME")?).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(Into::into)
        .or_else(home);
    let root = std::env::var_os("VLLM_CACHE_ROOT")
        .map(Into::into)
        .or(cache.map(|cache| cache.join("vllm")))?;
    let path = root.join("models/SmolLM2-135M-Instruct.Q4_1.gguf");
    path.exists().then_some(path)
}

fn compile(source: &str) -> ChatTemplate {
    ChatTemplate::compile(source, TemplateTokens::default()).expect("compiles")
}

const CHATML: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</e>\n{% endfor %}";

fn go_on(source: &str, content: &str) -> Result<String, RenderError> {
    let messages = [
        Message::text("user", "hi"),
        Message::text("assistant", content),
    ];
    compile(source).render(&ChatInput {
        messages: &messages,
        continue_final_message: true,
        ..Default::default()
    })
}

#[test]
fn a_final_message_is_continued() {
    assert_eq!(
        go_on(CHATML, "Sure: ").as_deref(),
        Ok("<user>hi</e>\n<assistant>Sure: ")
    );
    let trimming = CHATML.replace("m.content", "m.content | trim");
    assert_eq!(
        go_on(&trimming, " Sure: ").as_deref(),
        Ok("<user>hi</e>\n<assistant>Sure:")
    );
    let message = go_on(CHATML, " ").expect_err("empty").to_string();
    assert_eq!(
        message,
        "`continue_final_message`: the last message has no text to go on from"
    );
    assert!(matches!(
        go_on("nothing", "x"),
        Err(RenderError::CannotContinue { .. })
    ));
}

#[test]
fn endless_work_is_stopped() {
    let loops = "{% for a in range(9999) %}{% for b in range(9999) %}{% set c = a * b %}{% endfor %}{% endfor %}";
    let doubling = "{% set ns = namespace(s='x') %}{% for i in range(40) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}";
    for source in [loops, doubling] {
        let template = compile(source);
        let error = template
            .render(&ChatInput::default())
            .expect_err("too much");
        assert!(matches!(error, RenderError::TooMuchWork { .. }), "{error}");
        assert!(
            error.to_string().contains("more than 4000000 steps"),
            "{error}"
        );
    }
    let recursion = "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}";
    assert!(compile(recursion).render(&ChatInput::default()).is_err());
}

#[test]
fn a_long_conversation_is_within_the_bound() {
    let messages: Vec<Message> = (0..2_000)
        .map(|_| Message::text("user", "word ".repeat(200)))
        .collect();
    let prompt = compile(CHATML)
        .render(&ChatInput {
            messages: &messages,
            ..Default::default()
        })
        .expect("renders");
    assert!(prompt.len() > 2_000_000);
}

#[test]
fn faults_name_the_line() {
    let error = ChatTemplate::compile("a\n{% if %}", TemplateTokens::default())
        .err()
        .expect("refused");
    assert!(
        error.to_string().contains("does not compile") && error.to_string().contains("line 2"),
        "{error}"
    );
    let messages = [Message::text("user", "hi")];
    let input = ChatInput {
        messages: &messages,
        ..Default::default()
    };
    let error = compile("a\n{{ messages[0].x.y }}")
        .render(&input)
        .expect_err("undefined")
        .to_string();
    assert!(
        error.contains("undefined value") && error.contains("line 2"),
        "{error}"
    );
    let error = compile("{{ strftime_now('%Q!') }}")
        .render(&input)
        .expect_err("bad format")
        .to_string();
    assert!(error.contains("not a valid date format"), "{error}");
    let year = compile("{{ strftime_now('%Y-%m-%d') }}")
        .render(&input)
        .expect("a date");
    assert_eq!(year.len(), 10);
}

#[test]
fn empty_input_has_no_hidden_variables() {
    let template = compile("{{ tools }} {{ documents }} {{ bos_token is defined }} {{ messages }}");
    let kwargs: Map<String, Value> = Map::new();
    let input = ChatInput {
        template_kwargs: Some(&kwargs),
        ..Default::default()
    };
    assert_eq!(template.render(&input).as_deref(), Ok("None None False []"));
}
