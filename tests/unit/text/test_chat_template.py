# SPDX-License-Identifier: Apache-2.0
"""Chat templates: what the environment offers, how contents are fitted, what a refusal says."""

from __future__ import annotations

from pathlib import Path

import pytest

from vllm.text.chat_template import ChatTemplate, ChatTemplateError
from vllm.text.model_files import open_model_files

USER = {"role": "user", "content": "hi"}
PLAIN = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
PARTS = (
    "{% for m in messages %}{% for p in m.content %}"
    "{% if p.type == 'text' %}<{{ p.text }}>{% endif %}{% endfor %}{% endfor %}"
)


def test_default_model(smollm2: Path) -> None:
    files = open_model_files(smollm2)
    assert files.chat_template is not None
    prompt = ChatTemplate(files.chat_template, files.special_tokens).render([USER])
    assert prompt.endswith("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")
    assert files.eos_token_ids == (2,)
    assert files.context_length == 8192


def test_contents_are_fitted_to_the_template() -> None:
    both = [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    ]
    assert ChatTemplate(PLAIN).render(both) == "[user]a\nb"
    assert ChatTemplate(PARTS).content_format == "parts"
    assert ChatTemplate(PARTS).render([USER]) == "<hi>"
    assert ChatTemplate(PARTS).render(both) == "<a><b>"


def test_continue_final_message() -> None:
    template = ChatTemplate("{% for m in messages %}{{ m.content }}!{% endfor %}")
    messages = [USER, {"role": "assistant", "content": "The "}]
    assert template.render(messages, continue_final_message=True) == "hi!The "
    trimming = ChatTemplate("{% for m in messages %}{{ m.content | trim }}!{% endfor %}")
    assert trimming.render(messages, continue_final_message=True) == "hi!The"
    with pytest.raises(ChatTemplateError, match="has no text to go on from"):
        template.render([USER, {"role": "assistant", "content": " "}], continue_final_message=True)
    with pytest.raises(ChatTemplateError, match="does not show the last message"):
        ChatTemplate("x").render(messages, continue_final_message=True)


def test_environment_is_that_of_transformers() -> None:
    template = ChatTemplate(
        "{%- for x in [1, 2, 3] %}{% if x == 2 %}{% continue %}{% endif %}{{ x }}{% endfor %}\n"
        "{{ {'k': 'é', 'a': 1} | tojson }}{% generation %}G{% endgeneration %}{{ bos_token }}",
        {"bos_token": "<s>"},
    )
    assert template.render([]) == '13{"k": "é", "a": 1}G<s>'


def test_variables_win() -> None:
    template = ChatTemplate("{{ bos_token }}{{ enable_thinking }}", {"bos_token": "<s>"})
    assert template.render([], variables={"bos_token": "B", "enable_thinking": True}) == "BTrue"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages.__class__.__mro__ }}", "unsafe"),
        ("{{ 1 + 'a' }}", "failed on this conversation"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "does not end"),
    ],
)
def test_refusals_are_told(source: str, words: str) -> None:
    with pytest.raises(ChatTemplateError, match=words):
        ChatTemplate(source).render([USER])


def test_a_template_that_does_not_compile() -> None:
    with pytest.raises(ChatTemplateError, match="does not compile"):
        ChatTemplate("{% for %}")
