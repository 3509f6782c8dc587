# SPDX-License-Identifier: Apache-2.0
"""Validation: defaults, what is refused by name, what an error says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from vllm.api_server import limits
from vllm.api_server.errors import ApiError
from vllm.api_server.fields import FIELDS
from vllm.api_server.requests import read_chat, read_completion

HI = {"role": "user", "content": "hi"}
ROOT = Path(__file__).resolve().parents[3]


def chat(**fields: Any) -> Any:
    return read_chat(json.dumps({"messages": [HI]} | fields).encode())


def error_of(**fields: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        chat(**fields)
    return caught.value


def test_defaults() -> None:
    request = chat()
    assert (request.choices, request.stream, request.logprobs, request.max_tokens) == (
        1,
        False,
        None,
        None,
    )
    assert request.add_generation_prompt
    assert read_completion(b'{"prompt": "x"}').max_tokens == limits.DEFAULT_MAX_TOKENS


def test_an_error_names_field_value_and_limit() -> None:
    error = error_of(temperature=3)
    assert error.status == 400
    assert error.param == "temperature"
    assert error.message == "`temperature` must be a number from 0 to 2, not 3."


def test_half_a_surrogate_pair_is_refused_wherever_it_is() -> None:
    half = "a\ud83d"
    for fields in (
        {"messages": [{"role": "user", "content": half}]},
        {"messages": [{"role": half, "content": "x"}]},
        {"stop": [half]},
        {"chat_template_kwargs": {"a": [half]}},
    ):
        error = error_of(**fields)
        assert error.param in fields
        assert "holds half of a surrogate pair" in error.message
        json.dumps(error.body(), ensure_ascii=False).encode()


def test_only_the_last_member_of_a_name_is_read() -> None:
    body = b'{"messages": [{"role": "user", "content": "x"}], "n": "x", "n": 2, "n": null}'
    assert read_chat(body).choices == 1


def test_keys_of_logit_bias_are_token_ids_of_any_length() -> None:
    assert chat(logit_bias={"005": 1}).get("logit_bias") == {5: 1.0}
    for key in ("+5", "9" * 5000, "5_0"):
        assert "is not a token id" in error_of(logit_bias={key: 1}).message
    error = error_of(logit_bias={"5": None})
    assert error.message == "`logit_bias.5` must be a number, not null."


def test_arguments_of_earlier_tool_calls_are_json_of_bounded_depth() -> None:
    for text in ("NaN", "[" * 5000 + "]" * 5000, "{"):
        call = {"type": "function", "function": {"name": "f", "arguments": text}}
        error = error_of(messages=[HI, {"role": "assistant", "tool_calls": [call]}])
        assert error.param == "messages[1].tool_calls[0].function.arguments"


def test_unserved_fields_are_refused_unless_they_ask_for_nothing() -> None:
    error = error_of(tools=[{"type": "function"}])
    assert (error.param, error.code) == ("tools", "unsupported_field")
    assert "tool calls are not served yet" in error.message
    chat(tools=[], tool_choice="none", response_format={"type": "text"})


def test_unknown_fields_are_ignored_and_null_is_left_out() -> None:
    assert chat(no_such_field=1, n=None).choices == 1


def test_halves_of_characters_are_refused() -> None:
    with pytest.raises(ApiError) as caught:
        read_completion(b'{"prompt": "\\ud800"}')
    assert caught.value.param == "prompt"
    with pytest.raises(ApiError):
        read_chat(b'{"messages": [{"role": "user", "content": "\\udfff"}]}')


def test_fields_are_those_of_the_rust_frontend() -> None:
    """One table in each language; both know the same names, and serve the same of them."""
    parts = (ROOT / "rust/src/openai/src/fields").glob("*.rs")
    table = "".join(part.read_text() for part in parts)
    rows = re.findall(r'row\(\s*"(\w+)",\s*R::(\w+),\s*"(?:[^"\\]|\\.)*",\s*(\w+)', table)
    assert len(rows) > 70
    both = {"BOTH", "REQUEST", "SAMPLED"}
    own = {"chat": {"CHAT", "CHAT_OR_SAMPLING"}, "completions": {"COMPLETIONS", "COUNTED_LOGPROBS"}}
    for route, sets in own.items():
        theirs = {name: kind for name, where, kind in rows if where in both | sets}
        ours = FIELDS[route]
        assert set(ours) == set(theirs)
        for name, kind in theirs.items():
            assert (ours[name].refused is not None) == (kind == "Refused"), name


def test_limits_are_those_of_the_rust_frontend() -> None:
    source = (ROOT / "rust/src/openai/src/limits.rs").read_text()
    theirs = dict(re.findall(r"pub const (MAX_\w+): \w+ = ([\w<: ]+);", source))
    assert theirs
    for name, text in theirs.items():
        if hasattr(limits, name):
            value = (
                re.sub(r" as \w+", "", text).replace("_", "").replace("i32::MAX", str(2**31 - 1))
            )
            assert getattr(limits, name) == eval(value), name
