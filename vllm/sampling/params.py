# SPDX-License-Identifier: Apache-2.0
"""How tokens of a request are to be chosen, as callers and the wire state it.

Owns the parameters, their defaults, their limits and the normal form they are brought into, which
is the same for a value made by a caller and one read from the wire. Must not know tensors, sockets
or HTTP. The wire form is a map that leaves out what has its default value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import msgspec
import numpy as np

from vllm.errors import ValidationError

GREEDY_BELOW = 1e-5
"""Temperatures below this choose the most likely token."""

INT64_MIN, UINT64_MAX = -(2**63), 2**64 - 1
"""What an integer of a MessagePack message can hold."""

LOGIT_BIAS_RANGE = (-100.0, 100.0)
"""A frontend clamps every bias into this range before it sends it."""


@dataclass(frozen=True)
class Bound:
    """The closed or half-open range of one numeric parameter; ``None`` means no bound."""

    integer: bool
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: float | None = None
    nullable: bool = False

    def describe(self) -> str:
        kind = "an integer" if self.integer else "a finite number"
        parts = [
            f"above {self.exclusive_minimum:g}" if self.exclusive_minimum is not None else "",
            f"at least {self.minimum:g}" if self.minimum is not None else "",
            f"at most {self.maximum:g}" if self.maximum is not None else "",
        ]
        text = " ".join([kind, " and ".join(p for p in parts if p)]).strip()
        return text + (" or null" if self.nullable else "")

    def admits(self, value: Any) -> bool:
        if value is None:
            return self.nullable
        if isinstance(value, bool) or not isinstance(value, int if self.integer else (int, float)):
            return False
        return (
            (self.integer or math.isfinite(value))
            and (self.minimum is None or value >= self.minimum)
            and (self.maximum is None or value <= self.maximum)
            and (self.exclusive_minimum is None or value > self.exclusive_minimum)
        )


LIMITS: dict[str, Bound] = {
    "n": Bound(integer=True, minimum=1),
    "presence_penalty": Bound(integer=False, minimum=-2, maximum=2),
    "frequency_penalty": Bound(integer=False, minimum=-2, maximum=2),
    "repetition_penalty": Bound(integer=False, exclusive_minimum=0),
    "temperature": Bound(integer=False, minimum=0, maximum=2),
    "top_p": Bound(integer=False, exclusive_minimum=0, maximum=1),
    "top_k": Bound(integer=True, minimum=-1),
    "min_p": Bound(integer=False, minimum=0, maximum=1),
    "seed": Bound(integer=True, minimum=INT64_MIN, maximum=UINT64_MAX, nullable=True),
    "max_tokens": Bound(integer=True, minimum=1, nullable=True),
    "min_tokens": Bound(integer=True, minimum=0),
    "stream_interval": Bound(integer=True, minimum=1, nullable=True),
    "logprobs": Bound(integer=True, minimum=-1, nullable=True),
    "prompt_logprobs": Bound(integer=True, minimum=-1, nullable=True),
    "thinking_token_budget": Bound(integer=True, minimum=-1, nullable=True),
}
"""Limits of single parameters; ``tests/wire/limits.json`` states the same for both languages."""

MAX_PATTERN_SIZE = 4096
"""Each token of a watched output is compared with so many before it at most."""

_SIZE = Bound(integer=True, minimum=0, maximum=MAX_PATTERN_SIZE)

STRUCTURED_OUTPUT_BACKENDS = ("xgrammar", "guidance", "outlines", "lm-format-enforcer")
STRUCTURED_OUTPUT_CONSTRAINTS = (
    "json",
    "regex",
    "choice",
    "grammar",
    "json_object",
    "structural_tag",
)


class RequestOutputKind(IntEnum):
    """How much of the text each output of a stream repeats."""

    CUMULATIVE = 0
    DELTA = 1
    FINAL_ONLY = 2


@dataclass
class StructuredOutputsParams:
    """A constraint on the generated text; exactly one of the first six must be given.

    Raises:
        ValidationError: none or several constraints, or an unknown ``_backend``.
    """

    json: str | dict[str, Any] | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    disable_any_whitespace: bool = False
    disable_additional_properties: bool = False
    whitespace_pattern: str | None = None
    structural_tag: str | None = None
    _backend: str | None = None
    _backend_was_auto: bool = False

    def __post_init__(self) -> None:
        given = [name for name in STRUCTURED_OUTPUT_CONSTRAINTS if getattr(self, name) is not None]
        if len(given) != 1:
            raise _outside(
                "structured_outputs",
                given,
                "exactly one of " + ", ".join(STRUCTURED_OUTPUT_CONSTRAINTS),
            )
        if self.json is not None and not isinstance(self.json, str | dict):
            raise _outside("structured_outputs.json", self.json, "a string or an object")
        if self._backend is not None and self._backend not in STRUCTURED_OUTPUT_BACKENDS:
            raise _outside(
                "structured_outputs._backend",
                self._backend,
                "one of " + ", ".join(STRUCTURED_OUTPUT_BACKENDS),
            )


class RepetitionDetectionParams(msgspec.Struct, kw_only=True):
    """When to end a request: a pattern of `min_pattern_size` (0 means 1) to `max_pattern_size`
    tokens stands `min_count` times at the end of its output. 0 for `max_pattern_size`: never.

    Raises:
        ValidationError: sizes that are negative, reversed or too large, or a count below 2.
    """

    max_pattern_size: int = 0
    min_pattern_size: int = 0
    min_count: int = 0

    def __post_init__(self) -> None:
        for name in ("max_pattern_size", "min_pattern_size", "min_count"):
            if not _SIZE.admits(value := getattr(self, name)):
                raise _outside(f"repetition_detection.{name}", value, _SIZE.describe())
        if self.min_pattern_size > self.max_pattern_size:
            limit = f"at most max_pattern_size ({self.max_pattern_size})"
            raise _outside("repetition_detection.min_pattern_size", self.min_pattern_size, limit)
        if self.max_pattern_size > 0 and self.min_count < 2:
            raise _outside("repetition_detection.min_count", self.min_count, "at least 2")


class SamplingParams(msgspec.Struct, omit_defaults=True, kw_only=True, dict=False):
    """Parameters of one request; see ``LIMITS`` for their ranges.

    Fields whose name begins with an underscore are filled in by a frontend for the engine.

    Raises:
        ValidationError: a parameter of the wrong type or outside of its limit.
    """

    n: int = 1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    watermarking: bool | None = None
    top_p: float = 1.0
    top_k: int = 0  # 0 and -1: off
    min_p: float = 0.0
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    max_tokens: int | None = 16
    min_tokens: int = 0
    logprobs: int | None = None  # -1: the whole vocabulary
    prompt_logprobs: int | None = None  # -1: the whole vocabulary
    prompt_logprob_token_ids: np.ndarray | None = None
    prompt_logprob_start: int | None = None
    logprob_token_ids: list[int] | None = None
    flat_logprobs: bool = False
    detokenize: bool = True
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    include_stop_str_in_output: bool = False
    output_kind: RequestOutputKind = RequestOutputKind.CUMULATIVE
    stream_interval: int | None = None
    skip_clone: bool = False
    output_text_buffer_length: int = 0
    _eos_token_id: int | None = None
    _all_stop_token_ids: set[int] = msgspec.field(default_factory=set)
    _watermarking_skipped: bool = False
    structured_outputs: StructuredOutputsParams | None = None
    logit_bias: dict[int, float] | None = None
    allowed_token_ids: list[int] | None = None
    extra_args: dict[str, Any] | None = None
    bad_words: list[str] | None = None
    _bad_words_token_ids: list[list[int]] | None = None
    skip_reading_prefix_cache: bool | None = None
    thinking_token_budget: int | None = None  # -1: no limit, as None
    repetition_detection: RepetitionDetectionParams | None = None
    routed_experts_prompt_start: int = 0
    trace_decode_token_ids: list[int] | None = None

    def __post_init__(self) -> None:
        self._check_limits()
        self._normalize()
        self._check_strings()
        self._check_combinations()

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is taken each time."""
        return self.temperature < GREEDY_BELOW

    def _check_limits(self) -> None:
        for name, bound in LIMITS.items():
            if not bound.admits(value := getattr(self, name)):
                raise _outside(name, value, bound.describe())
            if not bound.integer:
                setattr(self, name, float(value))
        if self.extra_args is not None:
            _check_integers("extra_args", self.extra_args)

    def _normalize(self) -> None:
        self.stop = [self.stop] if isinstance(self.stop, str) else list(self.stop or ())
        self.stop_token_ids = list(self.stop_token_ids or ())
        self.bad_words = list(self.bad_words or ())
        self._all_stop_token_ids.update(self.stop_token_ids)
        # Positions served from the prefix cache have no logits to report.
        if self.skip_reading_prefix_cache is None:
            self.skip_reading_prefix_cache = self.prompt_logprobs is not None
        if self.thinking_token_budget == -1:
            self.thinking_token_budget = None
        if self.greedy:
            self.top_p, self.top_k, self.min_p = 1.0, 0, 0.0

    def _check_strings(self) -> None:
        for name in ("stop", "bad_words"):
            values = getattr(self, name)
            if not all(isinstance(text, str) and text for text in values):
                raise _outside(name, values, "a list of strings that are not empty")

    def _check_combinations(self) -> None:
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            limit = f"at most max_tokens ({self.max_tokens})"
            raise _outside("min_tokens", self.min_tokens, limit)
        if self.greedy and self.n != 1:
            raise _outside("n", self.n, "1 when temperature is 0 (greedy sampling)")


def _outside(field: str, value: Any, limit: str) -> ValidationError:
    text = repr(value)
    shown = text if len(text) <= 80 else text[:77] + "..."
    return ValidationError(f"{field} must be {limit}, got {shown}", field)


def _check_integers(path: str, value: Any, depth: int = 0) -> None:
    """Refuse integers that a message cannot hold, and nesting that no reader follows."""
    if depth > 64:
        raise _outside(path, "...", "nested at most 64 levels deep")
    if isinstance(value, int) and not INT64_MIN <= value <= UINT64_MAX:
        raise _outside(path, value, f"from {INT64_MIN} to {UINT64_MAX}")
    if isinstance(value, dict):
        for key, item in value.items():
            _check_integers(f"{path}.{key}", item, depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_integers(f"{path}[{index}]", item, depth + 1)
