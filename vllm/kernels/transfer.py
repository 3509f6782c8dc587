# SPDX-License-Identifier: Apache-2.0
"""Small arrays of the host on their way to the device: side by side, so that one copy takes them.

Owns that memory and the copy. Must not know what the numbers mean. On the CPU the host's memory is
the device's. The host's side is numpy's, because a small numpy operation costs a third of a small
torch one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

ALIGNMENT = 16  # bytes
Section = tuple[tuple[int, ...], torch.dtype]
"""Shape and dtype of one array."""


class Transfer:
    """Room for arrays of as many bytes as those of `most` take."""

    def __init__(self, most: Sequence[Section], device: torch.device) -> None:
        size = sum(map(_padded, most))
        on_cpu = device.type == "cpu"
        self._host = torch.zeros(size, dtype=torch.uint8, pin_memory=not on_cpu)
        self._device = self._host if on_cpu else torch.zeros_like(self._host, device=device)
        self._sent = None if on_cpu else torch.cuda.Event()

    def layout(self, sections: Sequence[Section]) -> tuple[list[np.ndarray], list[Tensor], int]:
        """Views of the memory: the host's, the device's, and how many bytes they take."""
        here: list[np.ndarray] = []
        there: list[Tensor] = []
        offset = 0
        for section in sections:
            shape, dtype = section
            end = offset + _size(section)
            here.append(self._host[offset:end].view(dtype).view(shape).numpy())
            there.append(self._device[offset:end].view(dtype).view(shape))
            offset += _padded(section)
        return here, there, offset

    def wait(self) -> None:
        """Until the last copy is done: before then its source must not change."""
        if self._sent is not None:
            self._sent.synchronize()

    def send(self, nbytes: int) -> None:
        """Start the copy to the device; what is launched after it finds it done."""
        if self._sent is not None:
            self._device[:nbytes].copy_(self._host[:nbytes], non_blocking=True)
            self._sent.record()


def _size(section: Section) -> int:
    shape, dtype = section
    return int(np.prod(shape)) * dtype.itemsize


def _padded(section: Section) -> int:
    return -(-_size(section) // ALIGNMENT) * ALIGNMENT
