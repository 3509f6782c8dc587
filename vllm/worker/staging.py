# SPDX-License-Identifier: Apache-2.0
"""Memory of a step's inputs, on the host and on the device.

Owns their layout. Must not know what the numbers mean. Steps with as many tokens and requests find
their inputs at the same place (recorded steps depend on it), others elsewhere in the same memory:
only one step's are alive.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from vllm.kernels.transfer import Section, Transfer
from vllm.layers.attention import AttentionInputs


class StepMemory:
    """One layout: arrays of the host, and the same as tensors of the device, in `nbytes` bytes.

    token_ids, positions, slots: i64 [T]; seq_lens: i32 [B]; starts: i32 [B + 1]; block_tables: i32
    [B, blocks].
    """

    def __init__(self, host: list[np.ndarray], device: list[Tensor], nbytes: int) -> None:
        self._host = host
        self.token_ids, self.positions, self.slots = host[:3]
        self.seq_lens, self.starts, self.block_tables = host[3:]
        self.device_ids, self.device_positions, slots, lens, starts, tables = device
        self.attention = AttentionInputs(slots, tables, lens, starts, self.seq_lens, self.starts)
        self.nbytes = nbytes

    @cached_property
    def host_tensors(self) -> list[Tensor]:
        """The host's arrays as tensors."""
        return [torch.from_numpy(array) for array in self._host]

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
        self._transfer = Transfer(_sections(max_tokens, max_num_seqs, blocks), device)

    def layout(self, tokens: int, requests: int) -> StepMemory:
        """Views of the memory for a step of this size."""
        return StepMemory(*self._transfer.layout(_sections(tokens, requests, self._blocks)))

    def wait(self) -> None:
        """Until the last step's inputs may be overwritten."""
        self._transfer.wait()

    def send(self, memory: StepMemory) -> None:
        """Start the copy to the device; what is launched after it finds it done."""
        self._transfer.send(memory.nbytes)


def _sections(tokens: int, requests: int, blocks: int) -> list[Section]:
    """In the order of `StepMemory`'s arrays."""
    return [
        *[((tokens,), torch.int64)] * 3,
        ((requests,), torch.int32),
        ((requests + 1,), torch.int32),
        ((requests, blocks), torch.int32),
    ]
