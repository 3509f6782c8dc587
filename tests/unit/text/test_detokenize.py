# SPDX-License-Identifier: Apache-2.0
"""Incremental detokenization and stop strings: any division of the input gives the same text."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm.config.embedded import DEFAULT_MODEL, EMBEDDED, fetch
from vllm.text.detokenize import Detokenizer, StopMatcher
from vllm.text.tokenizer import Tokenizer, load_tokenizer


@cache
def tokenizer() -> Tokenizer:
    return load_tokenizer(fetch(EMBEDDED[DEFAULT_MODEL]))


def streamed(ids: list[int], sizes: list[int], **options: bool) -> str:
    detokenizer = Detokenizer(tokenizer(), **options)
    text, at = "", 0
    for size in [*sizes, len(ids)]:
        text += detokenizer.push(ids[at : at + size])
        at += size
    return text + detokenizer.finish()


@given(st.text(), st.lists(st.integers(1, 5)))
def test_streamed_text_is_the_text(text: str, sizes: list[int]) -> None:
    ids = tokenizer().encode(text)  # rare characters have no token: U+FFFD in both
    assert streamed(ids, sizes, skip_special_tokens=False) == tokenizer().decode(ids)


@given(st.lists(st.integers(0, 49151)), st.lists(st.integers(1, 5)))
def test_any_ids_decode_as_the_library_does(ids: list[int], sizes: list[int]) -> None:
    # The library stops a run of bytes at each added token; bytes cut there are U+FFFD in both.
    plain = [number for number in ids if not tokenizer().is_special(number)]
    assert streamed(plain, sizes) == tokenizer().decode(plain, skip_special_tokens=True)


def test_half_a_character_is_held_back() -> None:
    first, *rest = tokenizer().encode("😀")
    detokenizer = Detokenizer(tokenizer())
    assert detokenizer.push([first]) == ""
    assert detokenizer.push(rest) == "😀"
    detokenizer.push([first])
    assert detokenizer.finish() == "\ufffd"


def test_half_a_character_of_the_prompt_is_no_text_unless_it_is_completed() -> None:
    first, *rest = tokenizer().encode("😀")
    assert rest
    letter = tokenizer().encode("a")
    for ids, text in ((rest, "😀"), (letter, "a"), ([], "")):
        detokenizer = Detokenizer(tokenizer(), [*letter, first])
        assert detokenizer.push(ids) + detokenizer.finish() == text


def test_special_tokens_are_left_out_unless_wanted() -> None:
    assert streamed([2], []) == ""
    assert streamed([2], [], skip_special_tokens=False) == "<|im_end|>"
    assert streamed([10**6], []) == ""


def run(stops: list[str], chunks: list[str], include: bool = False) -> tuple[str, str | None]:
    matcher, out = StopMatcher(stops, include), ""
    for chunk in chunks:
        text, stop = matcher.push(chunk)
        out += text
        if stop is not None:
            return out, stop
    return out + matcher.finish(), None


def cuts(text: str) -> list[list[str]]:
    whole = [[text]]
    return whole + [list(text)] + [[text[:at], text[at:]] for at in range(1, len(text))]


@pytest.mark.parametrize("include", [False, True])
@pytest.mark.parametrize(
    ("stops", "text", "kept", "stop"),
    [
        (["END"], "abcENDxyz", "abc", "END"),
        (["abab"], "aababab", "a", "abab"),
        (["bc", "abc"], "xabc", "xa", "bc"),  # same end: the one listed first
        (["abcd", "bc"], "abcd", "a", "bc"),  # earlier end wins over list order
        (["x"], "abc", "abc", None),
        (["abcd"], "abc", "abc", None),
        (["é"], "caf\u00e9!", "caf", "é"),
        ([""], "abc", "abc", None),
    ],
)
def test_stop_strings(
    stops: list[str], text: str, kept: str, stop: str | None, include: bool
) -> None:
    expected = kept + (stop or "") if include else kept
    for chunks in cuts(text):
        assert run(stops, chunks, include) == (expected, stop)


@given(st.lists(st.text("ab", min_size=1, max_size=4), max_size=3), st.text("ab", max_size=12))
def test_stopping_does_not_depend_on_chunks(stops: list[str], text: str) -> None:
    assert len({run(stops, chunks) for chunks in cuts(text)}) == 1


def test_no_stop_ends_before_it_may_but_one_may_begin() -> None:
    matcher = StopMatcher(["ab"])
    assert matcher.push("ab", may_stop=False) == ("ab", None)
    assert matcher.push("a", may_stop=False) == ("", None)
    assert matcher.push("b") == ("", "ab")
