# SPDX-License-Identifier: Apache-2.0
"""Whether an output has begun to repeat itself: the same tokens over and over at its end.

Owns that one stop condition. Must not know tensors, batches or the wire.
"""

from __future__ import annotations

import numpy as np

from vllm.sampling.params import RepetitionDetectionParams

STOP_REASON = "repetition_detected"


class RepetitionWatch:
    """Watches one output for a pattern of `shortest` to `longest` tokens that stands `count` times
    in a row at its end.

    A pattern of p tokens stands c times at the end where each of the last p * (c - 1) tokens equals
    the one p before it. So one run length per p is all that is kept, and a token costs one
    comparison with each of the last `longest` tokens, however long the output is.
    """

    def __init__(self, params: RepetitionDetectionParams, max_tokens: int) -> None:
        shortest = max(1, params.min_pattern_size)
        # A longer pattern would not stand there `min_count` times before the output is full.
        longest = min(params.max_pattern_size, max_tokens // params.min_count)
        sizes = max(0, longest - shortest + 1)
        self._sizes = slice(shortest - 1, shortest - 1 + sizes)
        self._latest = np.full(max(longest, 1), -1, np.int64)  # the last tokens, newest first
        self._runs = np.zeros(sizes, np.int64)
        self._needed = np.arange(shortest, shortest + sizes) * (params.min_count - 1)

    def append(self, token: int) -> bool:
        """Take the next token; whether a pattern is complete now."""
        self._runs += 1
        self._runs *= self._latest[self._sizes] == token
        self._latest[1:] = self._latest[:-1].copy()
        self._latest[0] = token
        return bool((self._runs >= self._needed).any())


def make_watch(params: RepetitionDetectionParams | None, max_tokens: int) -> RepetitionWatch | None:
    """The watch that parameters ask for, over an output of at most `max_tokens`."""
    if params is None or params.max_pattern_size == 0:
        return None
    return RepetitionWatch(params, max_tokens)
