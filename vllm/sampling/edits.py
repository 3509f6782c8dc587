# SPDX-License-Identifier: Apache-2.0
"""What a request adds to its logits before a token is chosen: bias, bans, minimum length.

Owns one class per rule; each answers with (token ids, summands) for the next token, -inf being a
ban. Sums commute, so the order of rules does not matter. Must not know rows, tensors or batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from vllm.engine.request import Request

Entries = tuple[np.ndarray, np.ndarray]
"""Token ids i64 [N] and summands f32 [N]."""


class LogitEdit(Protocol):
    """`entries` is asked once per step; None means nothing to add now."""

    def entries(self, request: Request) -> Entries | None: ...


class Always:
    """The same summands at every step: logit bias, and bans of all but the allowed tokens."""

    def __init__(self, ids: np.ndarray, summands: np.ndarray) -> None:
        self._entries = (ids, summands)

    def entries(self, request: Request) -> Entries | None:
        return self._entries


class MinTokens:
    """Stop tokens are banned until `count` tokens are out."""

    def __init__(self, count: int, stop_ids: np.ndarray) -> None:
        self._count = count
        self._entries = ban(stop_ids)

    def entries(self, request: Request) -> Entries | None:
        return self._entries if request.num_output_tokens < self._count else None


class BadWords:
    """The last token of a banned sequence is banned where the output ends with the rest of it."""

    def __init__(self, words: Sequence[Sequence[int]]) -> None:
        self._words = [(list(word[:-1]), word[-1]) for word in words]

    def entries(self, request: Request) -> Entries | None:
        output = request.output_token_ids
        banned = [
            last
            for start, last in self._words
            if len(start) <= len(output) and output[len(output) - len(start) :] == start
        ]
        return ban(np.array(banned, np.int64)) if banned else None


def make_edits(request: Request, vocab_size: int) -> list[LogitEdit]:
    """The rules that a request's parameters call for."""
    params = request.sampling_params
    edits: list[LogitEdit] = []
    if params.logit_bias:
        ids = np.fromiter(params.logit_bias.keys(), np.int64)
        edits.append(Always(ids, np.fromiter(params.logit_bias.values(), np.float32)))
    if params.allowed_token_ids:
        allowed = np.zeros(vocab_size, bool)
        allowed[params.allowed_token_ids] = True
        edits.append(Always(*ban(np.flatnonzero(~allowed))))
    if params._bad_words_token_ids:
        edits.append(BadWords(params._bad_words_token_ids))
    stops = [token for token in params._all_stop_token_ids if 0 <= token < vocab_size]
    if params.min_tokens > 0 and stops:
        edits.append(MinTokens(params.min_tokens, np.array(sorted(stops), np.int64)))
    return edits


def ban(ids: np.ndarray) -> Entries:
    """Tokens `ids` cannot be chosen."""
    return ids.astype(np.int64), np.full(len(ids), -np.inf, np.float32)


def joined(parts: Sequence[Entries]) -> Entries:
    """All of them as one."""
    ids, summands = zip(*parts, strict=True)
    return np.concatenate(ids), np.concatenate(summands)
