# SPDX-License-Identifier: Apache-2.0
"""The declared rewrites of a commit message, on raw bytes whatever their encoding.

Owns the three rules and their order: ids, then issue numbers, then closing keywords. Knows nothing
of git; who a shortened id names is asked of the caller.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

BARE_NUMBER = re.compile(rb"(?<![\w/&#-])#(?=[0-9])")
ID = re.compile(rb"(?<![0-9A-Za-z_])[0-9a-f]{7,40}(?![0-9A-Za-z_])")
REFERENCE = (
    rb"#[0-9]|[\w.-]+/[\w.-]+#[0-9]"
    rb"|https?://github\.com/[\w.-]+/[\w.-]+/(?:issues|pull)/[0-9]"
)
CLOSING = re.compile(
    rb"\b(close[sd]?|fix(?:es|ed)?|resolve[sd]?)(:[ \t]*|[ \t]+)(?=" + REFERENCE + rb")",
    re.IGNORECASE,
)

# The image's full id for a text that names exactly one ancestor, or nothing.
ImageOf = Callable[[bytes], bytes | None]


@dataclass(frozen=True)
class Rules:
    qualify: bytes = b""
    defuse: bool = False
    translate: bool = False

    @property
    def empty(self) -> bool:
        return not (self.qualify or self.defuse or self.translate)


@dataclass(frozen=True)
class Rewrite:
    message: bytes
    qualified: int = 0
    defused: int = 0
    translated: int = 0


def qualify(message: bytes, owner_repo: bytes) -> tuple[bytes, int]:
    return BARE_NUMBER.subn(owner_repo.replace(b"\\", b"\\\\") + b"#", message)


def defuse(message: bytes) -> tuple[bytes, int]:
    return CLOSING.subn(rb"\1\2upstream ", message)


def ids_in(message: bytes) -> list[bytes]:
    """Texts that may name a commit; in a URL they name the old repository, so they are left out."""
    return [found.group() for found in ID.finditer(message) if not _in_url(message, found)]


def only_digits(text: bytes) -> bool:
    """A process id or a date rather than a commit: never translated, but listed."""
    return len(text) < 40 and text.isdigit()


def _in_url(message: bytes, found: re.Match[bytes]) -> bool:
    return message[found.start() - 1 : found.start()] == b"/"


def translate(message: bytes, image_of: ImageOf) -> tuple[bytes, int]:
    count = 0

    def image(found: re.Match[bytes]) -> bytes:
        nonlocal count
        text = found.group()
        if _in_url(message, found) or only_digits(text) or not (new := image_of(text)):
            return text
        count += 1
        return new[: len(text)]

    return ID.sub(image, message), count


def rewrite(message: bytes, rules: Rules, image_of: ImageOf) -> Rewrite:
    translated = qualified = defused = 0
    if rules.translate:
        message, translated = translate(message, image_of)
    if rules.qualify:
        message, qualified = qualify(message, rules.qualify)
    if rules.defuse:
        message, defused = defuse(message)
    return Rewrite(message, qualified, defused, translated)
