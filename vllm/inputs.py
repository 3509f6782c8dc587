# SPDX-License-Identifier: Apache-2.0
"""What offline use takes as a prompt: a text, token ids, or an object with either.

Owns the forms and their checks. Must not know models or how a text is encoded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

from vllm.errors import ValidationError


class TextPrompt(TypedDict):
    """A prompt that is a text. Only prompts of the same `cache_salt` share cached blocks."""

    prompt: str
    cache_salt: NotRequired[str]


class TokensPrompt(TypedDict):
    """A prompt that is token ids already; `prompt` is the text they stand for, for the record."""

    prompt_token_ids: list[int]
    prompt: NotRequired[str]
    cache_salt: NotRequired[str]


Prompt = str | list[int] | TextPrompt | TokensPrompt
_KEYS = ("prompt", "prompt_token_ids", "cache_salt")


@dataclass(frozen=True)
class ParsedPrompt:
    """`token_ids` is None where `text` is to be encoded."""

    text: str | None
    token_ids: list[int] | None
    cache_salt: str | None = None


def parse_prompts(prompts: Prompt | Sequence[Prompt]) -> list[ParsedPrompt]:
    """One prompt or several. Raises `ValidationError` that names the prompt and what is wrong."""
    if isinstance(prompts, str | Mapping) or _is_ids(prompts):
        return [_parse(prompts, "the prompt")]
    if not isinstance(prompts, Sequence):
        raise ValidationError(f"prompts is {prompts!r}; a prompt or a list of them is expected")
    return [_parse(prompt, f"prompt {index}") for index, prompt in enumerate(prompts)]


def _is_ids(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and len(value) > 0
        and all(isinstance(one, int) and not isinstance(one, bool) for one in value)
    )


def _parse(prompt: Any, name: str) -> ParsedPrompt:
    if isinstance(prompt, str):
        return ParsedPrompt(prompt, None)
    if _is_ids(prompt):
        return ParsedPrompt(None, list(prompt))
    if not isinstance(prompt, Mapping):
        raise ValidationError(
            f"{name} is {prompt!r}; a text, a list of token ids, or an object with prompt or "
            "prompt_token_ids is expected"
        )
    if unknown := [key for key in prompt if key not in _KEYS]:
        raise ValidationError(
            f"{name}: {unknown[0]} is not supported; known are {', '.join(_KEYS)}"
        )
    return _parse_object(prompt, name)


def _parse_object(prompt: Mapping[str, Any], name: str) -> ParsedPrompt:
    text, ids, salt = (prompt.get(key) for key in _KEYS)
    for key, value in (("prompt", text), ("cache_salt", salt)):
        if value is not None and not isinstance(value, str):
            raise ValidationError(f"{name}: {key} is {value!r}, a text is expected")
    if ids is not None and not _is_ids(ids):
        raise ValidationError(
            f"{name}: prompt_token_ids is {ids!r}, a list of integers is expected"
        )
    if text is None and ids is None:
        raise ValidationError(f"{name} has neither prompt nor prompt_token_ids")
    return ParsedPrompt(text, None if ids is None else list(ids), salt)
