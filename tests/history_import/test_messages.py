# SPDX-License-Identifier: Apache-2.0
"""The three rewrites of a message, each byte that they do not mean kept."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.history_import import config, messages
from tools.history_import.messages import Rules
from tools.history_import.verify import messages as verifier

IMAGE = b"abcdef0123456789abcdef0123456789abcdef01"
OLD = b"1234567abc1234567abc1234567abc1234567abc"
ALL = Rules(b"o/r", True, True)


def image_of(text: bytes) -> bytes | None:
    return IMAGE if OLD.startswith(text) else None


def rewritten(message: bytes, rules: Rules = ALL) -> bytes:
    return messages.rewrite(message, rules, image_of).message


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"feat: x (#12)", b"feat: x (o/r#12)"),
        (b"#1", b"o/r#1"),
        (b"#1,#2", b"o/r#1,o/r#2"),
        (b"a#1 o/r#1 ##1 &#1; -#1 /#1", b"a#1 o/r#1 ##1 &#1; -#1 /#1"),
        (b"# 1 #a", b"# 1 #a"),
        (b"caf\xe9#1 \xe9 #1\r\n", b"caf\xe9o/r#1 \xe9 o/r#1\r\n"),
    ],
)
def test_qualify(before: bytes, after: bytes) -> None:
    assert rewritten(before) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"Closes #171", b"Closes upstream o/r#171"),
        (b"FIXED: a/b#1", b"FIXED: upstream a/b#1"),
        (b"fix:#1", b"fix:upstream o/r#1"),
        (b"resolve\t#1", b"resolve\tupstream o/r#1"),
        (
            b"fixes https://github.com/a/b/issues/4",
            b"fixes upstream https://github.com/a/b/issues/4",
        ),
        (b"closes http://github.com/a/b/pull/4", b"closes upstream http://github.com/a/b/pull/4"),
        (b"closes https://github.com/a/b", b"closes https://github.com/a/b"),
        (b"disclose #1 fixings #1 hotfix #1", b"disclose o/r#1 fixings o/r#1 hotfix o/r#1"),
        (b"closes the door", b"closes the door"),
        (b"closes\n#1", b"closes\no/r#1"),
    ],
)
def test_defuse(before: bytes, after: bytes) -> None:
    assert rewritten(before) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"see 1234567a", b"see abcdef01"),
        (b"see " + OLD + b".", b"see " + IMAGE + b"."),
        (b"see 1234567", b"see 1234567"),  # only digits
        (b"see 123456", b"see 123456"),  # too short
        (b"see 7654321a", b"see 7654321a"),  # nobody
        (b"https://x/commit/1234567a", b"https://x/commit/1234567a"),
        (b"x1234567a 1234567ag 1234567a_", b"x1234567a 1234567ag 1234567a_"),
        (b"1234567A", b"1234567A"),
        (OLD + b"0", OLD + b"0"),
    ],
)
def test_translate(before: bytes, after: bytes) -> None:
    assert rewritten(before) == after


def test_what_was_done_is_counted() -> None:
    done = messages.rewrite(b"fixes #1, #2 since 1234567a", ALL, image_of)
    assert (done.qualified, done.defused, done.translated) == (2, 1, 1)


@given(st.binary())
def test_without_rules_nothing_changes(message: bytes) -> None:
    assert rewritten(message, Rules()) == message


PIECES = st.sampled_from(
    [b"#1", b"fixes ", b"Close: ", b"o/r", b"\n", b" ", b"1234567ab", b"/", b"\xff", b"x", b"(#22)"]
)


@given(st.lists(PIECES).map(b"".join))
def test_only_insertions(message: bytes) -> None:
    """Taking out what was put in gives the message back."""
    done = rewritten(message, Rules(b"o-o/q", True))
    assert done.replace(b"upstream ", b"").replace(b"o-o/q#", b"#") == message


@given(st.lists(PIECES).map(b"".join))
def test_no_bare_number_is_left_and_a_second_pass_adds_no_name(message: bytes) -> None:
    done = rewritten(message, Rules(b"o/r"))
    assert not re.search(rb"(?<![\w/&#-])#[0-9]", done)
    assert rewritten(done, Rules(b"o/r")) == done


KEYWORDS = st.sampled_from([b"closes", b"Fix", b"RESOLVED", b"fixing", b"_close", b"\xe9fix"])
REFERENCES = st.sampled_from(
    [b"#7", b"a/b#7", b"https://github.com/a/b/pull/7", b"HTTP://GitHub.com/a/b/issues/7", b"a#7"]
)
GAPS = st.sampled_from([b" ", b":", b": \t", b"\t", b"", b"\n", b"  ", b" :", b"/", b"-"])
IDS = st.sampled_from([OLD, OLD[:9], OLD[:7], b"/" + OLD[:9], OLD[:9] + b"g", b"deadbeef1"])


@given(st.lists(st.one_of(PIECES, KEYWORDS, REFERENCES, GAPS, IDS), max_size=12).map(b"".join))
def test_the_verifier_s_own_rules_give_the_same(message: bytes) -> None:
    """Written apart, from the same words; where they differ one of them is wrong."""

    def ancestor(text: str) -> str | None:
        return OLD.decode() if OLD.decode().startswith(text) else None

    found = verifier.mentions(message, ancestor)
    theirs = verifier.rewritten(
        message, config.Messages("o/r", True, True), found, lambda oid: IMAGE.decode()
    )
    assert rewritten(message) == theirs
