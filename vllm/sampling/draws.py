# SPDX-License-Identifier: Apache-2.0
"""Drawing tokens: temperature, filters and random numbers of requests by row, and the kernel.

Owns those parameters and their way to the device. Must not know what was done to the logits before.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vllm.engine.request import Request
from vllm.kernels import ops
from vllm.kernels.transfer import Section, Transfer
from vllm.sampling.rng import seed_bits, uniform


class Draws:
    """Parameters of up to `max_num_seqs` requests in arrays indexed by `Request.row`."""

    def __init__(self, max_num_seqs: int, vocab_size: int, device: torch.device) -> None:
        self._vocab_size = vocab_size
        self.drawing: set[int] = set()  # rows whose request does not take the likeliest token
        self.temperature = np.zeros(max_num_seqs, np.float32)
        self._top_k = np.zeros(max_num_seqs, np.int32)
        self._top_p = np.ones(max_num_seqs, np.float32)
        self._min_p = np.zeros(max_num_seqs, np.float32)
        self._seeds = np.zeros(max_num_seqs, np.uint64)
        self._transfer = Transfer(_sections(max_num_seqs), device)
        self._layouts: dict[int, tuple[list[np.ndarray], list[Tensor], int]] = {}

    def add(self, request: Request) -> None:
        """Take in a request that was given a row."""
        params, row = request.sampling_params, request.row
        self.temperature[row] = 0.0 if params.greedy else params.temperature
        if not params.greedy:
            self.drawing.add(row)
        self._top_k[row] = min(params.top_k, self._vocab_size)
        self._top_p[row], self._min_p[row] = params.top_p, params.min_p
        self._seeds[row] = seed_bits(request.seed)

    def remove(self, row: int) -> None:
        """Forget the request of a row."""
        self.drawing.discard(row)

    def draw(
        self, out: Tensor, logits: Tensor, requests: Sequence[Request], rows: np.ndarray
    ) -> None:
        """out i64 [S], on the device: a token for each request, from `logits` f32 [S, V]. Does not
        wait for the device.
        """
        if not self.temperature[rows].any():
            ops.argmax(out, logits)
            return
        positions = np.array([request.num_output_tokens for request in requests], np.uint64)
        random = uniform(self._seeds[rows], positions)
        sources = (self.temperature, self._top_k, self._top_p, self._min_p)
        values = [*(source[rows] for source in sources), random]
        ops.sample_top_k_top_p(out, logits, *self._send(values))

    def _send(self, values: list[np.ndarray]) -> list[Tensor]:
        size = len(values[0])
        if size not in self._layouts:
            self._layouts[size] = self._transfer.layout(_sections(size))
        here, there, nbytes = self._layouts[size]
        self._transfer.wait()
        for target, source in zip(here, values, strict=True):
            target[:] = source
        self._transfer.send(nbytes)
        return there


def _sections(rows: int) -> list[Section]:
    """Of `ops.sample_top_k_top_p`'s parameters, in order."""
    dtypes = (torch.float32, torch.int32, torch.float32, torch.float32, torch.float64)
    return [((rows,), dtype) for dtype in dtypes]
