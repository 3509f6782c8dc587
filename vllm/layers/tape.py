# SPDX-License-Identifier: Apache-2.0
"""Memory for packed weights: one behind the other in the order they are loaded, in large pages.

Owns the memory. Must not know what lies in it. A decode step of one request reads all of it and
nothing twice, so what a new page costs is paid for every 4 KiB or for every 2 MiB of weights.
"""

from __future__ import annotations

import mmap

import torch
from torch import Tensor

PAGE = 2 << 20  # bytes of a large page on x86-64 and on most aarch64 kernels
CHUNK = 32 << 20
LINE = 64


class Tape:
    """Takes tensors; memory is asked for in chunks and used up to the last large page."""

    def __init__(self) -> None:
        self._free = torch.empty(0, dtype=torch.uint8)

    def keep(self, data: Tensor) -> Tensor:
        """A copy of `data` u8 [N], contiguous, at the next cache line of the tape."""
        return self.reserve(data.numel()).copy_(data)

    def reserve(self, count: int) -> Tensor:
        """The next u8 [count] of the tape from a cache line on, all zero."""
        size = -(-count // LINE) * LINE
        if size > self._free.numel():
            self._free = _large_pages(max(size, CHUNK))
        taken, self._free = self._free[:count], self._free[size:]
        return taken


def _large_pages(size: int) -> Tensor:
    """u8 [whole large pages, at least `size`]; takes no memory until it is written to."""
    size = -(-size // PAGE) * PAGE
    area = mmap.mmap(-1, size + PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        area.madvise(mmap.MADV_HUGEPAGE)
    whole = torch.frombuffer(area, dtype=torch.uint8)
    first = -whole.data_ptr() % PAGE
    return whole[first : first + size]
