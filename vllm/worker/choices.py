# SPDX-License-Identifier: Apache-2.0
"""What a decode step decides on the device, and its way to the host in one copy.

Owns that memory. Must not know who the tokens are for. On the CPU both sides are the same.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Choices:
    """For up to `max_num_seqs` rows: the likeliest token of each, and one number for all of them
    that says whether any may be NaN.
    """

    def __init__(self, max_num_seqs: int, device: torch.device) -> None:
        self._on_cpu = device.type == "cpu"
        size = max_num_seqs + 1
        self._host = torch.zeros(size, dtype=torch.int64, pin_memory=not self._on_cpu)
        self._device = self._host if self._on_cpu else torch.zeros_like(self._host, device=device)

    def on_device(self, rows: int) -> tuple[Tensor, Tensor]:
        """Likeliest i64 [rows] and suspect i64 [1]: where a step writes them."""
        return self._device[:rows], self._device[rows : rows + 1]

    def on_host(self, rows: int) -> memoryview:
        """The same after `fetch`, one behind the other: i64 [rows + 1]."""
        return self._host[: rows + 1].numpy().data

    def fetch(self, rows: int) -> None:
        """Wait for the device and copy what the last step of so many rows wrote."""
        if not self._on_cpu:
            # Not asynchronous: it returns when the tokens are there.
            self._host[: rows + 1].copy_(self._device[: rows + 1])
