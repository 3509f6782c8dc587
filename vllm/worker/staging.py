# SPDX-License-Identifier: Apache-2.0
"""Memory of a step's inputs: all of them side by side, so that one copy brings them to a device.

Owns layout and copy. Must not know what the numbers mean. On the CPU the host's memory is the
device's. Steps with as many tokens and requests find their inputs at the same place (recorded steps
depend on it), others elsewhere in the same memory: only one step's are alive. The host's side is
numpy's, because a small numpy operation costs a third of a small torch one.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vllm.layers.attention import AttentionInputs

ALIGNMENT = 16  # bytes


class StepMemory:
    """One layout: arrays of the host, and the same as tensors of the device, in `nbytes` bytes.

    token_ids, positions, slots: i64 [T]; seq_lens: i32 [B]; starts: i32 [B + 1]; block_tables: i32
    [B, blocks].
    """

    def __init__(
        self,
        host: list[np.ndarray],
        device_ids: Tensor,
        device_positions: Tensor,
        attention: AttentionInputs,
        nbytes: int,
    ) -> None:
        self.token_ids, self.positions, self.slots = host[:3]
        self.seq_lens, self.starts, self.block_tables = host[3:]
        self.device_ids, self.device_positions = device_ids, device_positions
        self.attention, self.nbytes = attention, nbytes

    def arrays(self, columns: int) -> tuple[np.ndarray, ...]:
        """The host's arrays, of the tables the first `columns` columns."""
        tables = self.block_tables[:, :columns]
        return self.token_ids, self.positions, self.slots, self.seq_lens, self.starts, tables


class Staging:
    """Room for steps of up to `max_tokens` tokens of `max_num_seqs` requests."""

    def __init__(
        self, max_tokens: int, max_num_seqs: int, blocks: int, device: torch.device
    ) -> None:
        self._blocks = blocks
        size = sum(_padded(s, t) for s, t in _sections(max_tokens, max_num_seqs, blocks))
        self._on_cpu = device.type == "cpu"
        self._host = torch.zeros(size, dtype=torch.uint8, pin_memory=not self._on_cpu)
        self._device = self._host if self._on_cpu else torch.zeros_like(self._host, device=device)
        self._sent = None if self._on_cpu else torch.cuda.Event()

    def layout(self, tokens: int, requests: int) -> StepMemory:
        """Views of the memory for a step of this size."""
        here: list[np.ndarray] = []
        there: list[Tensor] = []
        offset = 0
        for shape, dtype in _sections(tokens, requests, self._blocks):
            end = offset + _size(shape, dtype)
            here.append(self._host[offset:end].view(dtype).view(shape).numpy())
            there.append(self._device[offset:end].view(dtype).view(shape))
            offset += _padded(shape, dtype)
        ids, positions, slots, lens, starts, tables = there
        attention = AttentionInputs(slots, tables, lens, starts, here[3], here[4])
        return StepMemory(here, ids, positions, attention, offset)

    def wait(self) -> None:
        """Until the last copy is done: before then its source must not change."""
        if self._sent is not None:
            self._sent.synchronize()

    def send(self, memory: StepMemory) -> None:
        """Start the copy to the device; what is launched after it finds it done."""
        if self._sent is not None:
            source, target = self._host[: memory.nbytes], self._device[: memory.nbytes]
            target.copy_(source, non_blocking=True)
            self._sent.record()


Section = tuple[tuple[int, ...], torch.dtype]


def _sections(tokens: int, requests: int, blocks: int) -> list[Section]:
    """In the order of `StepMemory`'s arrays."""
    return [
        *[((tokens,), torch.int64)] * 3,
        ((requests,), torch.int32),
        ((requests + 1,), torch.int32),
        ((requests, blocks), torch.int32),
    ]


def _size(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    return int(np.prod(shape)) * dtype.itemsize


def _padded(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    return -(-_size(shape, dtype) // ALIGNMENT) * ALIGNMENT
