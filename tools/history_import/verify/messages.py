# SPDX-License-Identifier: Apache-2.0
"""What a message must have become: computed here again, from the rules and nothing of the writer.

Owns the rules as verify reads them: ids, then numbers, then closing keywords. Knows no objects.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from ..config import Messages

DIGITS = b"0123456789"
WORD = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
# A number after one of these belongs to something else: a path, an entity, a heading, a range.
TAKEN = WORD + b"/&#-"
HEX_RUN = re.compile(rb"[0-9a-f]+")
KEYWORDS = (
    *(b"close", b"closes", b"closed"),
    *(b"fix", b"fixes", b"fixed"),
    *(b"resolve", b"resolves", b"resolved"),
)
LETTERS = re.compile(rb"[A-Za-z0-9_]+")
BETWEEN = re.compile(rb":[ \t]*|[ \t]+")
REFERENCE = re.compile(
    rb"#[0-9]"
    rb"|[\w.-]+/[\w.-]+#[0-9]"
    rb"|https?://github\.com/[\w.-]+/[\w.-]+/(?:issues|pull)/[0-9]",
    re.IGNORECASE,
)
SHORTEST, LONGEST = 7, 40
UPSTREAM = b"upstream "


class Mention(NamedTuple):
    """A commit's id, whole or cut, in a message."""

    start: int
    end: int
    oid: str


def bare_numbers(message: bytes) -> list[int]:
    """Where a `#` begins a number that a forge would take for one of its own."""
    found, at = [], message.find(b"#")
    while at >= 0:
        before, after = message[at - 1 : at] if at else b"", message[at + 1 : at + 2]
        if after and after in DIGITS and (not before or before not in TAKEN):
            found.append(at)
        at = message.find(b"#", at + 1)
    return found


def closing_references(message: bytes) -> list[int]:
    """Where a reference begins that a closing keyword stands before."""
    found = []
    for word in LETTERS.finditer(message):
        if word[0].lower() in KEYWORDS:
            gap = BETWEEN.match(message, word.end())
            if gap and REFERENCE.match(message, gap.end()):
                found.append(gap.end())
    return found


def mentions(message: bytes, ancestor: Callable[[str], str | None]) -> list[Mention]:
    """Ids of commits; `ancestor` knows the one that begins so, if there is exactly one."""
    found = []
    for run in HEX_RUN.finditer(message):
        start, end = run.span()
        before, after = message[start - 1 : start] if start else b"", message[end : end + 1]
        inside = (before and before in WORD + b"/") or (after and after in WORD)
        length = end - start
        decimal = length < LONGEST and run[0].isdigit()
        if inside or decimal or not SHORTEST <= length <= LONGEST:
            continue
        if oid := ancestor(run[0].decode()):
            found.append(Mention(start, end, oid))
    return found


def insert(message: bytes, places: list[int], what: bytes) -> bytes:
    pieces, last = [], 0
    for at in places:
        pieces += [message[last:at], what]
        last = at
    return b"".join([*pieces, message[last:]])


def rewritten(
    message: bytes, rules: Messages, found: list[Mention], images: Callable[[str], str]
) -> bytes:
    """The message of the image; `images` gives the image of a mentioned commit."""
    pieces, last = [], 0
    for mention in found:
        image = images(mention.oid)[: mention.end - mention.start]
        pieces += [message[last : mention.start], image.encode()]
        last = mention.end
    text = b"".join([*pieces, message[last:]])
    if rules.qualify:
        text = insert(text, bare_numbers(text), rules.qualify.encode())
    if rules.defuse_closing_keywords:
        text = insert(text, closing_references(text), UPSTREAM)
    return text


def explain(expected: bytes, actual: bytes, rules: Messages) -> str:
    """Why a message is not what it must be, in words."""
    if rules.qualify and (places := bare_numbers(actual)):
        at = places[0]
        return f"the bare number {shown(actual[at : at + 8])} is left"
    if rules.defuse_closing_keywords and (places := closing_references(actual)):
        at = places[0]
        return f"a closing keyword is left before {shown(actual[at : at + 24])}"
    if actual == expected + b"\n":
        return "a newline was added at the end"
    if expected == actual + b"\n":
        return "the newline at the end is lost"
    both = enumerate(zip(expected, actual, strict=False))
    at = next((n for n, (a, b) in both if a != b), min(len(expected), len(actual)))
    here = slice(max(0, at - 8), at + 16)
    return f"byte {at}: {shown(actual[here])} instead of {shown(expected[here])}"


def shown(text: bytes) -> str:
    return repr(text.decode("utf-8", "backslashreplace"))
