// SPDX-License-Identifier: Apache-2.0

//! Templates that requests bring: no value that they can build ends the process.

use vllm_chat::{ChatInput, ChatTemplate, RenderError, TemplateTokens, on_deep_stack};

/// Nests two lists ten levels deeper, in each of so many rounds, and then shows `end`.
fn nesting(rounds: usize, end: &str) -> Result<String, RenderError> {
    let (open, close) = ("[".repeat(10), "]".repeat(10));
    let deeper = |name: &str| format!("{{% set ns.{name} = {open}ns.{name}{close} %}}");
    let source = format!(
        "{{% set ns = namespace(x=1, y=1) %}}{{% for a in range({}) %}}{{% for b in range(100) %}}{}{}\
         {{% endfor %}}{{% endfor %}}{end}",
        rounds / 100,
        deeper("x"),
        deeper("y"),
    );
    let render = || {
        let template = ChatTemplate::compile_guest(&source, TemplateTokens::default());
        template.expect("compiles").render(&ChatInput::default())
    };
    on_deep_stack(render).expect("a thread")
}

#[test]
fn deeply_nested_values_are_compared_and_dropped() {
    for end in [
        "{{ ns.x == ns.y }}",
        "{{ ns.x <= ns.y }}",
        "{{ {ns.x: 1}[ns.y] == 1 }}",
    ] {
        assert_eq!(nesting(20_000, end).as_deref(), Ok("True"), "{end}");
    }
}

#[test]
fn what_is_nested_until_the_fuel_is_spent_is_dropped() {
    let spent = nesting(1_000_000, "");
    assert!(
        matches!(spent, Err(RenderError::TooMuchWork { .. })),
        "{spent:?}"
    );
}
