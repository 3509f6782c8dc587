// SPDX-License-Identifier: Apache-2.0

//! Chat templates: any source compiles or is refused, any conversation renders or is refused, within the fuel, and the
//! same twice. The input is a template, a zero byte, and what is said.

use serde_json::{Map, json};
use vllm_chat::{ChatInput, ChatTemplate, Message, TemplateTokens};

/// Fuel buys at most 64 bytes of text each; a text may be copied into the prompt once more.
const LONGEST: usize = 4_000_000 * 64 * 2;

pub(crate) fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (source, said) = text.split_once('\0').unwrap_or((&text, "hi"));
    let tokens = TemplateTokens {
        bos: Some("<s>".to_owned()),
        ..TemplateTokens::default()
    };
    let Ok(template) = ChatTemplate::compile(source, tokens) else {
        return;
    };
    let kwargs: Map<_, _> = [
        ("flag".to_owned(), json!(true)),
        ("things".to_owned(), json!({"a": [1, 2.5, null]})),
    ]
    .into_iter()
    .collect();
    let messages = [
        Message::text("system", "Be brief."),
        Message::text("user", said),
        Message::text("assistant", "yes"),
    ];
    for continue_final_message in [false, true] {
        let input = ChatInput {
            messages: &messages,
            add_generation_prompt: true,
            continue_final_message,
            template_kwargs: Some(&kwargs),
            ..ChatInput::default()
        };
        let first = template.render(&input);
        if let Ok(prompt) = &first {
            assert!(prompt.len() <= LONGEST, "{} bytes", prompt.len());
        }
        // The clock is all that may differ.
        if !source.contains("strftime_now") {
            assert_eq!(template.render(&input), first);
        }
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    [
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}\0hi",
        "{{ bos_token }}{%- set ns = namespace(n=0) -%}{% for m in messages %}{% set ns.n = ns.n + loop.index %}{{ m['content'] | trim | upper }}{{ ns.n }}{% if loop.last %}{% break %}{% endif %}{% endfor %}\0 x ",
        "{% macro f(a, b=1) %}{{ a ~ b }}{% endmacro %}{{ f('x') }}{{ messages | tojson(indent=2) }}{{ things | tojson }}{% if flag is defined and tools is none %}{{ raise_exception('no ' ~ messages[0].role) }}{% endif %}\0x",
        "{% generation %}{{ messages[-1].content.split('e')[::-1] | join(', ') }}{% endgeneration %}{% raw %}\n{{ x }}{% endraw %}{{ 'a' * 3 }}{{ (1 / 3) | round(2) }}{{ 7 // 2 }}{{ 2 ** 8 }}\0x",
        "{% for i in range(10) recursive %}{{ loop(range(i)) if i > 7 }}{% else %}none{% endfor %}{{ '%s-%s' % ('a', 1) }}{{ '{}'.format(1) }}{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list }}\0x",
        "{{ strftime_now('%d %b %Y') }}{{ messages | length }}{{ messages[1:] | first }}{{ 'abc'[1:2] }}{{ {'a': 1}.items() | list }}{{ 'x'.replace('x', 'y').startswith('y') }}\0x",
    ]
    .map(|seed| seed.as_bytes().to_vec())
    .to_vec()
}
