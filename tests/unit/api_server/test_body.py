# SPDX-License-Identifier: Apache-2.0
"""Bodies: any bytes give members or a 400, and members are those of the JSON library."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm.api_server.body import read_members
from vllm.api_server.errors import ApiError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.text(), JSON), st.sampled_from([None, 1]))
def test_members_are_those_of_the_json_library(
    value: dict[str, object], indent: int | None
) -> None:
    members = read_members(json.dumps(value, indent=indent).encode())
    assert {name: member.value for name, member in members} == value
    assert all(json.loads(member.raw) == member.value for _, member in members)


@given(st.binary(max_size=60) | st.text('{}[]":,ab1 \\', max_size=40).map(str.encode))
def test_any_bytes_give_members_or_a_400(body: bytes) -> None:
    try:
        read_members(body)
    except ApiError as error:
        assert error.status == 400
        assert error.message.startswith("The request body")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "ends too early (line 1, column 0)"),
        (b'{"a": 1', "ends too early (line 1, column 7)"),
        (b'{"a" 1}', "is not valid JSON (line 1, column 6)"),
        (b'{\n"a": x}', "is not valid JSON (line 2, column 6)"),
        (b"[1]", "must be a JSON object"),
        (b'{"a": 1} x', "is not valid JSON"),
        (b'{"a": NaN}', "is not valid JSON"),
        (b'{"a": "\xff"}', "is not valid JSON"),
        (b'{"a": ' + b"[" * 100_000 + b"}", "The request body"),
    ],
)
def test_what_is_wrong_is_said(body: bytes, words: str) -> None:
    with pytest.raises(ApiError) as caught:
        read_members(body)
    assert words in caught.value.message
