# SPDX-License-Identifier: Apache-2.0
"""Log probabilities as the two routes show them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vllm.api_server.requests import Request
from vllm.protocol.messages import LogprobsLists, LogprobsTensors
from vllm.text.tokenizer import Tokenizer

MIN_LOGPROB = -9999.0  # JSON knows no infinity
Row = list[tuple[int, float]]  # (token id, log probability); the sampled token first


class Namer:
    """Names tokens by a tokenizer, as the request wants them."""

    def __init__(self, tokenizer: Tokenizer, request: Request) -> None:
        self._tokenizer = tokenizer
        self._as_ids = request.get("return_tokens_as_token_ids", False)
        self._wanted = request.shown_logprobs or 0

    def name(self, number: int) -> str:
        return f"token_id:{number}" if self._as_ids else self._tokenizer.token_text(number)

    def characters(self, number: int) -> int:
        """Length of a token's text."""
        return len(self._tokenizer.token_text(number))

    def candidate(self, number: int, logprob: float) -> dict[str, Any]:
        exact = self._tokenizer.token_bytes(number) or b""
        return {"token": self.name(number), "logprob": logprob, "bytes": list(exact)}

    def top(self, row: Row) -> Row:
        """The candidates to show: the engine may send more than were asked for."""
        return row[1 : 1 + self._wanted]

    def chat(self, logprobs: LogprobsLists, used: int) -> list[dict[str, Any]]:
        """One entry per token."""
        return [
            self.candidate(*row[0]) | {"top_logprobs": [self.candidate(*e) for e in self.top(row)]}
            for row in _rows(logprobs, used)
        ]

    def by_name(self, row: Row) -> dict[str, float] | None:
        """The likeliest tokens and the sampled one; None when none were asked for."""
        if not self._wanted:
            return None
        return {self.name(number): logprob for number, logprob in [row[0], *self.top(row)]}

    def prompt(self, logprobs: LogprobsTensors) -> list[dict[str, Any] | None]:
        """One entry per prompt position; the first token has nothing before it."""
        ids, values = logprobs.token_ids.numpy(), logprobs.logprobs.numpy()
        ranks = logprobs.selected_token_ranks.numpy()
        return [
            None,
            *(self._prompt_row(ids[at], values[at], int(ranks[at])) for at in range(len(ids))),
        ]

    def _prompt_row(self, ids: np.ndarray, values: np.ndarray, actual: int) -> dict[str, Any]:
        row: dict[str, Any] = {}
        for column, (number, value) in enumerate(zip(ids, values, strict=True)):
            row.setdefault(
                str(int(number)),
                {
                    "logprob": plain(value),
                    "rank": column if column else actual,
                    "decoded_token": self.name(int(number)),
                },
            )
        return row


@dataclass
class CompletionLogprobs:
    """The four lists of a completions choice; `offset` is where the next token starts."""

    offset: int = 0
    text_offset: list[int] = field(default_factory=list)
    token_logprobs: list[float | None] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    top_logprobs: list[dict[str, float] | None] = field(default_factory=list)

    def add(self, namer: Namer, logprobs: LogprobsLists, used: int) -> None:
        """Append the first `used` rows."""
        for row in _rows(logprobs, used):
            self._add_row(namer, row)

    def echo(self, namer: Namer, first: int, prompt: LogprobsTensors) -> None:
        """Append an echoed prompt, whose first token has nothing before it."""
        self._add_token(namer, first)
        self.token_logprobs.append(None)
        self.top_logprobs.append(None)
        for ids, values in zip(prompt.token_ids.numpy(), prompt.logprobs.numpy(), strict=True):
            self._add_row(namer, [(int(n), plain(v)) for n, v in zip(ids, values, strict=True)])

    def _add_row(self, namer: Namer, row: Row) -> None:
        self._add_token(namer, row[0][0])
        self.token_logprobs.append(row[0][1])
        self.top_logprobs.append(namer.by_name(row))

    def _add_token(self, namer: Namer, number: int) -> None:
        self.text_offset.append(self.offset)
        self.offset += namer.characters(number)
        self.tokens.append(namer.name(number))

    def body(self) -> dict[str, Any]:
        return {
            "text_offset": self.text_offset,
            "token_logprobs": self.token_logprobs,
            "tokens": self.tokens,
            "top_logprobs": self.top_logprobs,
        }


def mean(logprobs: Iterable[float]) -> float:
    """Mean log probability per token, by which candidates are ranked."""
    values = list(logprobs)
    return sum(values) / max(len(values), 1)


def sampled(logprobs: LogprobsLists, used: int) -> list[float]:
    """Log probabilities of the first `used` sampled tokens."""
    return [row[0][1] for row in _rows(logprobs, used)]


def _rows(logprobs: LogprobsLists, used: int) -> Iterator[Row]:
    for ids, values in zip(logprobs.token_ids[:used], logprobs.logprobs[:used], strict=True):
        yield [(int(n), plain(v)) for n, v in zip(ids, values, strict=True)]


def plain(value: np.float32) -> float:
    """A log probability for JSON: within [-9999, 0], the shortest digits that name the f32."""
    if math.isnan(value):
        return MIN_LOGPROB
    return min(max(float(str(np.float32(value))), MIN_LOGPROB), 0.0)
