# SPDX-License-Identifier: Apache-2.0
"""Sampling parameters: defaults, normal form, limits; by construction and on the wire alike."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm.errors import ValidationError
from vllm.sampling.params import LIMITS, SamplingParams, StructuredOutputsParams


@pytest.mark.parametrize(
    ("values", "field", "text"),
    [
        ({"temperature": 2.5}, "temperature", "at least 0 and at most 2, got 2.5"),
        ({"temperature": "hot"}, "temperature", "a finite number"),
        ({"temperature": math.nan}, "temperature", "got nan"),
        ({"temperature": True}, "temperature", "got True"),
        ({"top_p": 0}, "top_p", "above 0 and at most 1"),
        ({"repetition_penalty": math.inf}, "repetition_penalty", "above 0"),
        ({"top_k": 1.0}, "top_k", "an integer at least -1"),
        ({"max_tokens": 0}, "max_tokens", "at least 1 or null"),
        ({"max_tokens": 4, "min_tokens": 5}, "min_tokens", "at most max_tokens (4), got 5"),
        ({"logprobs": -2}, "logprobs", "at least -1"),
        ({"seed": 2**64}, "seed", "an integer"),
        ({"stop": ["a", ""]}, "stop", "not empty"),
        ({"stop": [1]}, "stop", "strings"),
        ({"bad_words": [""]}, "bad_words", "not empty"),
        ({"temperature": 0, "n": 2}, "n", "greedy"),
        ({"extra_args": {"a": [{"b": 2**64}]}}, "extra_args.a[0].b", "from -92"),
    ],
)
def test_limits_name_field_value_and_limit(values: dict[str, Any], field: str, text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SamplingParams(**values)
    assert caught.value.field == field
    assert str(caught.value).startswith(field)
    assert text in str(caught.value)


def test_long_values_are_cut_in_messages() -> None:
    with pytest.raises(ValidationError) as caught:
        SamplingParams(temperature="x" * 10_000)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 200


def test_normal_form() -> None:
    params = SamplingParams(stop="a", stop_token_ids=[3], prompt_logprobs=1)
    assert params.stop == ["a"]
    assert params.bad_words == []
    assert params._all_stop_token_ids == {3}
    assert params.skip_reading_prefix_cache is True
    assert SamplingParams().skip_reading_prefix_cache is False
    assert SamplingParams()._all_stop_token_ids == set()


def test_greedy_resets_other_filters() -> None:
    params = SamplingParams(temperature=1e-6, top_p=0.5, top_k=4, min_p=0.5)
    assert params.greedy
    assert (params.top_p, params.top_k, params.min_p) == (1.0, 0, 0.0)
    assert not SamplingParams(temperature=1e-5).greedy


@given(
    st.fixed_dictionaries(
        {},
        optional={
            name: st.integers(-3, 6) if bound.integer else st.floats(-3, 3)
            for name, bound in LIMITS.items()
        },
    )
)
def test_wire_and_constructor_agree(values: dict[str, Any]) -> None:
    """The same values are taken or refused, with the same text and the same result."""
    try:
        built: SamplingParams | str = SamplingParams(**values)
    except ValidationError as error:
        built = str(error)
    try:
        read: SamplingParams | str = msgspec.msgpack.decode(
            msgspec.msgpack.encode(values), type=SamplingParams
        )
    except msgspec.ValidationError as error:
        read = str(error)
    assert read == built


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({}, "structured_outputs"),
        ({"regex": "a", "json": "{}"}, "structured_outputs"),
        ({"json": []}, "structured_outputs.json"),
        ({"regex": "a", "_backend": "magic"}, "structured_outputs._backend"),
    ],
)
def test_structured_outputs(values: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        StructuredOutputsParams(**values)
    assert caught.value.field == field


def test_importing_needs_neither_torch_nor_sockets() -> None:
    code = (
        "import sys, vllm.sampling.params, vllm.protocol.messages, vllm.protocol.codec\n"
        "print([name for name in ('torch', 'zmq') if name in sys.modules])"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True)
    assert done.stdout == b"[]\n"
