# SPDX-License-Identifier: Apache-2.0
"""A limit on how many tokens a model may think before it has to answer.

Owns the count of one request and the tokens that end a thought. Must not know text: the markers
`<think>` and `</think>` come as token ids. Must not know rows, tensors or batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vllm.engine.request import Request
from vllm.sampling.edits import Entries, LogitEdit, ban, joined


@dataclass(frozen=True)
class Markers:
    """Token ids before and after a thought, at least one each."""

    start: tuple[int, ...]
    end: tuple[int, ...]


class ThinkingBudget:
    """At most `budget` tokens between the markers, then nothing but the end marker.

    A thought that the prompt leaves open counts from its marker on; the output's thoughts count
    together. What the end marker needs wins over the request's other `rules`.
    """

    def __init__(
        self, request: Request, markers: Markers, vocab_size: int, rules: Sequence[LogitEdit]
    ) -> None:
        self._markers, self._rules = markers, rules
        self._left = request.sampling_params.thinking_token_budget
        self._vocabulary = vocab_size
        prompt = request.prompt_token_ids
        opened = _find_last(prompt, markers.start)
        self._inside = opened > _find_last(prompt, markers.end)
        if self._inside:
            self._left -= len(prompt) - opened - len(markers.start)
        keep = max(len(markers.start), len(markers.end))
        self._tail = list(prompt[-keep:])
        self._keep, self._num_seen = keep, 0

    def entries(self, request: Request) -> Entries | None:
        for token in request.output_token_ids[self._num_seen :]:
            self._take(token)
        self._num_seen = request.num_output_tokens
        if self._inside and self._left <= 0:
            others = np.arange(self._vocabulary, dtype=np.int64)
            return ban(np.delete(others, self._next_of_end()))
        found = [made for rule in self._rules if (made := rule.entries(request)) is not None]
        return joined(found) if found else None

    def _take(self, token: int) -> None:
        self._tail = [*self._tail, token][-self._keep :]
        if not self._inside:
            self._inside = self._ends_with(self._markers.start)
            return
        self._left -= 1
        self._inside = not self._ends_with(self._markers.end)

    def _ends_with(self, marker: Sequence[int]) -> bool:
        return self._tail[-len(marker) :] == list(marker)

    def _next_of_end(self) -> int:
        """The end marker goes on where the output has begun it."""
        end = self._markers.end
        begun = (n for n in range(len(end) - 1, 0, -1) if self._ends_with(end[:n]))
        return end[next(begun, 0)]


def _find_last(tokens: Sequence[int], marker: Sequence[int]) -> int:
    """Where `marker` begins in `tokens` for the last time, or -1."""
    first, size = marker[0], len(marker)
    for at in range(len(tokens) - size, -1, -1):
        if tokens[at] == first and list(tokens[at : at + size]) == list(marker):
            return at
    return -1
