# SPDX-License-Identifier: Apache-2.0
"""Bytes -> the members of a JSON object -> typed values.

A member keeps its raw text beside its value, so that an error can show what the client wrote.
`null` is the same as leaving a field out.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any, NoReturn

from vllm.api_server.errors import ApiError, bad_field, bad_request, shorten
from vllm.api_server.limits import MAX_MEMBERS, MAX_TOKEN_ID

_SPACE = re.compile(r"[ \t\n\r]*")
_EXACT_FLOAT = 2**53  # above it a float no longer names one integer


@dataclass(frozen=True)
class Member:
    """A value as text and parsed."""

    raw: str
    value: Any


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_decoder = json.JSONDecoder(parse_constant=_no_constant)


def read_members(body: bytes) -> list[tuple[str, Member]]:
    """The members of a JSON object in order. Raises ApiError (400) for anything else."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _invalid(body[: error.start].decode("utf-8", "replace"), False) from None
    try:
        members = _scan_object(text)
    except json.JSONDecodeError as error:
        cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated")
        raise _invalid(text if cut else text[: error.pos + 1], cut) from None
    except (ValueError, RecursionError):
        raise _invalid(text, False) from None
    if len(members) > MAX_MEMBERS:
        raise bad_request(f"The request body must have at most {MAX_MEMBERS} members.")
    return members


def _invalid(read: str, cut: bool) -> ApiError:
    what = "ends too early" if cut else "is not valid JSON"
    line = read.count("\n") + 1
    column = len(read) - (read.rfind("\n") + 1)
    return bad_request(f"The request body {what} (line {line}, column {column}).")


def _scan_object(text: str) -> list[tuple[str, Member]]:
    at = _skip(text, 0)
    if text[at : at + 1] != "{":
        _, end = _decoder.raw_decode(text, at)
        _expect_end(text, end)
        raise bad_request("The request body must be a JSON object.")
    members: list[tuple[str, Member]] = []
    at = _skip(text, at + 1)
    if text[at : at + 1] == "}":
        _expect_end(text, at + 1)
        return members
    while True:
        name, member, at = _scan_member(text, at)
        members.append((name, member))
        if text[at : at + 1] == "}":
            _expect_end(text, at + 1)
            return members
        if text[at : at + 1] != ",":
            raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
        at = _skip(text, at + 1)


def _scan_member(text: str, at: int) -> tuple[str, Member, int]:
    if text[at : at + 1] != '"':
        raise json.JSONDecodeError("Expecting property name", text, at)
    name, at = scanstring(text, at + 1, True)
    at = _skip(text, at)
    if text[at : at + 1] != ":":
        raise json.JSONDecodeError("Expecting ':' delimiter", text, at)
    start = _skip(text, at + 1)
    value, end = _decoder.raw_decode(text, start)
    return name, Member(text[start:end], value), _skip(text, end)


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _expect_end(text: str, at: int) -> None:
    at = _skip(text, at)
    if at != len(text):
        raise json.JSONDecodeError("Extra data", text, at)


# ------------------------------------------------------------------------------------------ values


def mismatch(path: str, raw: str, expected: str) -> ApiError:
    """`path` must be X, not the string "abc"."""
    return bad_field(path, f"`{path}` must be {expected}, not {_describe(raw)}.")


def _describe(raw: str) -> str:
    """A value in words: its type, and the value itself when it is short."""
    shown = shorten(raw)
    if raw.startswith('"'):
        return f"the string {shown}"
    if raw.startswith("{"):
        return "an object"
    if raw.startswith("["):
        return "a list" if len(raw.encode()) > 64 else f"the list {shown}"
    return shown


def compact(value: Any) -> str:
    """A value's JSON text without spaces, for messages about what is nested."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def parse_text(text: str) -> Any:
    """The value of JSON text that a client put into a string. Raises ValueError."""
    try:
        value, end = _decoder.raw_decode(text, _skip(text, 0))
        _expect_end(text, end)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def check_characters(path: str, member: Member) -> None:
    """Raise ApiError when some string within holds half of a character (a lone surrogate)."""
    if "\\u" in member.raw and not is_text(json.dumps(member.value, ensure_ascii=False)):
        raise bad_field(
            path, f'`{path}` holds half of a surrogate pair, as "\\ud83d", which is no text.'
        )


def is_text(value: Any) -> bool:
    """A string that can be encoded: JSON may hold halves of characters (lone surrogates)."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def boolean(path: str, member: Member) -> bool:
    if not isinstance(member.value, bool):
        raise mismatch(path, member.raw, "true or false")
    return member.value


def integer(path: str, member: Member, least: int, most: int) -> int:
    """A whole number within bounds; `5.0` counts as 5."""
    value = _whole(member.value)
    if value is None or not least <= value <= most:
        raise mismatch(path, member.raw, f"a whole number from {least} to {most}")
    return value


def _whole(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else None
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_FLOAT:
        return int(value)
    return None


@dataclass(frozen=True)
class Bounds:
    """Of a float: `least <= x <= most`, or `least < x` where `open`."""

    least: float
    most: float
    open: bool = False

    def contains(self, value: float) -> bool:
        above = value > self.least if self.open else value >= self.least
        return above and value <= self.most

    def describe(self) -> str:
        least, most = _plain(self.least), _plain(self.most)
        if self.open:
            return f"a number above {least} and at most {most}"
        return f"a number from {least} to {most}"


def _plain(value: float) -> str:
    return f"{value:g}".replace("e+", "e")


def number(path: str, member: Member, bounds: Bounds) -> float:
    value = member.value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise mismatch(path, member.raw, bounds.describe())
    try:
        found = float(value)
    except OverflowError:
        found = float("inf")
    if not bounds.contains(found):
        raise mismatch(path, member.raw, bounds.describe())
    return found


def text(path: str, member: Member, most: int | None = None) -> str:
    """A string of at most `most` bytes."""
    check_characters(path, member)
    if not isinstance(member.value, str):
        raise mismatch(path, member.raw, "a string")
    check_length(path, member.value, most)
    return member.value


def name(path: str, member: Member, most: int) -> str:
    """A string that shows in logs and answers: not empty, without control characters."""
    value = text(path, member, most)
    if not value:
        raise bad_field(path, f"`{path}` must not be empty: leave it out.")
    if any(unicodedata.category(character) == "Cc" for character in value):
        raise bad_field(path, f"`{path}` must not hold control characters, as a line feed.")
    return value


def check_length(path: str, value: str, most: int | None) -> None:
    length = len(value.encode())
    if most is not None and length > most:
        raise bad_field(path, f"`{path}` must be at most {most} bytes long, not {length}.")


def texts(
    path: str, member: Member, most_items: int, most_bytes: int, *, single: bool
) -> list[str]:
    """A list of non-empty strings; with `single` one string alone is a list of itself."""
    expected = "a string or a list of strings" if single else "a list of strings"
    values = [member.value] if single and isinstance(member.value, str) else member.value
    if not isinstance(values, list) or not all(is_text(value) for value in values):
        raise mismatch(path, member.raw, expected)
    check_count(path, len(values), most_items)
    for index, value in enumerate(values):
        if not value:
            raise bad_field(f"{path}[{index}]", f"`{path}[{index}]` must not be empty.")
        check_length(f"{path}[{index}]", value, most_bytes)
    return values


def check_count(path: str, count: int, most: int) -> None:
    if count > most:
        raise bad_field(path, f"`{path}` must have at most {most} entries, not {count}.")


def is_ids(value: Any) -> bool:
    """A list of numbers that fit in 32 bits."""
    return isinstance(value, list) and all(
        isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 2**32 for item in value
    )


def ids(path: str, member: Member, most: int | None = None) -> list[int]:
    if not is_ids(member.value):
        raise mismatch(path, member.raw, "a list of token ids")
    if most is not None:
        check_count(path, len(member.value), most)
    check_ids(path, member.value)
    return member.value


def check_ids(path: str, values: Iterable[int]) -> None:
    for index, value in enumerate(values):
        if value > MAX_TOKEN_ID:
            where = f"{path}[{index}]"
            raise bad_field(
                where, f"`{where}` must be a token id from 0 to {MAX_TOKEN_ID}, not {value}."
            )


def optional(members: list[tuple[str, Member]], name: str, read: Callable[..., Any]) -> Any:
    """The last member of that name, read; None where it is absent or `null`."""
    for found, member in reversed(members):
        if found == name:
            return None if member.value is None else read(name, member)
    return None
