# SPDX-License-Identifier: Apache-2.0
"""Which tokens a request has seen and how often: what its penalties are computed from.

Owns the counts of one request. Must not know the formula (the kernel does) or batches.
"""

from __future__ import annotations

import numpy as np

from vllm.engine.request import Request


def wanted(request: Request) -> bool:
    """Whether any of the three penalties is on."""
    p = request.sampling_params
    return (p.repetition_penalty, p.frequency_penalty, p.presence_penalty) != (1.0, 0.0, 0.0)


class TokenCounts:
    """Distinct tokens of prompt and output, in arrays that grow by doubling."""

    def __init__(self, request: Request) -> None:
        prompt = np.unique(np.array(request.prompt_token_ids, np.int64))
        size = len(prompt)
        capacity = max(64, 2 * size)
        self._ids = np.empty(capacity, np.int64)
        self._counts = np.zeros(capacity, np.int32)
        self._in_prompt = np.zeros(capacity, bool)
        self._ids[:size] = prompt
        self._in_prompt[:size] = True
        self._place = {int(token): index for index, token in enumerate(prompt)}
        for token in request.output_token_ids:
            self.append(token)

    def append(self, token: int) -> None:
        """Count one more output token."""
        place = self._place.get(token)
        if place is None:
            place = self._place[token] = len(self._place)
            if place == len(self._ids):
                self._grow()
            self._ids[place] = token
        self._counts[place] += 1

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Token ids i64 [N], output counts i32 [N], in the prompt or not bool [N]."""
        size = len(self._place)
        return self._ids[:size], self._counts[:size], self._in_prompt[:size]

    def _grow(self) -> None:
        self._ids = np.concatenate([self._ids, np.empty_like(self._ids)])
        self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        self._in_prompt = np.concatenate([self._in_prompt, np.zeros_like(self._in_prompt)])
