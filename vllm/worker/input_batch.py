# SPDX-License-Identifier: Apache-2.0
"""Tensors of the running requests, one row each, and the inputs of a step cut from them.

Owns rows: token ids, block tables, counts. Must not know sampling, models or why a request runs.
Where the inputs of a step lie, and how they reach the device, is in `staging`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vllm.engine.request import Request
from vllm.layers.attention import AttentionInputs
from vllm.scheduler.batch import Batch
from vllm.worker.staging import Staging, StepMemory


@dataclass(slots=True)
class StepInputs:
    """What the model is given: T tokens of B requests.

    Of a decode step there may be more of both than the B `rows`: the others are nobody's, write
    nowhere and read one token.
    """

    token_ids: Tensor  # i64 [T]
    positions: Tensor  # i64 [T]
    attention: AttentionInputs
    rows: np.ndarray  # intp [B]: the requests' rows, in the order of the batch
    starts: np.ndarray  # i32 [B + 1]: query_start_loc, on the CPU
    is_decode: bool


class InputBatch:
    """Rows for `max_num_seqs` requests of up to `max_model_len` tokens.

    `padded(B)`, at least B and at most `max_num_seqs`, is the size that a decode step of B requests
    is filled up to.
    """

    def __init__(
        self,
        max_num_seqs: int,
        max_model_len: int,
        max_num_batched_tokens: int,
        block_size: int,
        device: torch.device,
        padded: Callable[[int], int] = lambda size: size,
    ) -> None:
        blocks = -(-max_model_len // block_size)
        self.block_size = block_size
        self.token_ids = np.empty((max_num_seqs, max_model_len + 1), np.int32)
        self.block_tables = np.zeros((max_num_seqs, blocks), np.int32)
        self._free_rows = list(range(max_num_seqs - 1, -1, -1))
        self._padded = padded
        self._staging = Staging(max_num_batched_tokens, max_num_seqs, blocks, device)
        most = max(max_num_batched_tokens, max_num_seqs + 1)
        self._counting = np.arange(most, dtype=np.int64)
        self._decodes: dict[int, StepMemory] = {}
        self._memory = self._staging.layout(0, 0)  # of the step under way

    def add(self, request: Request) -> None:
        """Give a request a row and write its tokens there."""
        row = request.row = self._free_rows.pop()
        prompt = request.num_prompt_tokens
        self.token_ids[row, :prompt] = request.prompt_token_ids
        if request.output_token_ids:
            self.token_ids[row, prompt : request.num_tokens] = request.output_token_ids

    def remove(self, request: Request) -> None:
        """Take the row back."""
        self._free_rows.append(request.row)
        request.row = -1

    def add_blocks(self, request: Request, position: int, blocks: list[int]) -> None:
        """Blocks `blocks` follow the first `position` ones of the request's table."""
        assert request.row >= 0, f"{request.request_id} got blocks and has no row"
        self.block_tables[request.row, position : position + len(blocks)] = blocks

    def append_tokens(self, rows: np.ndarray, positions: np.ndarray, ids: np.ndarray) -> None:
        """Token `ids[i]` is at `positions[i]` of row `rows[i]`."""
        self.token_ids[rows, positions] = ids

    def append_decoded(self, rows: np.ndarray, ids: np.ndarray) -> None:
        """The same after a decode step of these rows: each token follows its context."""
        self.token_ids[rows, self._memory.seq_lens[: len(rows)]] = ids

    def prepare(self, batch: Batch) -> StepInputs:
        """Fill the step's memory from the plan and send it to the device.

        For requests 0..B-1 with counts c and computed tokens p the flat order is

            token    0 .. c0-1 | c0 .. c0+c1-1 | ...
            position p0 ..     | p1 ..         | ...
        """
        rows = np.array([request.row for request in batch.requests], np.intp)
        computed = np.array([r.num_computed_tokens for r in batch.requests], np.int64)
        self._staging.wait()
        is_decode = batch.is_decode
        if is_decode:
            memory = self._fill_decode(rows, computed)
        else:
            memory = self._fill_mixed(batch, rows, computed)
        return self._send(memory, rows, is_decode)

    def _send(self, memory: StepMemory, rows: np.ndarray, is_decode: bool) -> StepInputs:
        self._memory = memory
        self._staging.send(memory)
        starts = memory.starts[: len(rows) + 1]
        ids, positions = memory.device_ids, memory.device_positions
        return StepInputs(ids, positions, memory.attention, rows, starts, is_decode)

    def _fill_decode(self, rows: np.ndarray, computed: np.ndarray) -> StepMemory:
        """One token each, and the rest nobody's."""
        size = len(rows)
        padded = self._padded(size)
        memory = self._decode_memory(padded)
        memory.positions[:size] = computed
        memory.starts[:] = self._counting[: padded + 1]
        np.add(computed, 1, out=memory.seq_lens[:size], casting="unsafe")
        self._fill_rows(memory, rows, rows)
        if padded > size:
            memory.token_ids[size:] = memory.positions[size:] = memory.block_tables[size:, 0] = 0
            memory.slots[size:], memory.seq_lens[size:] = -1, 1
        return memory

    def _decode_memory(self, padded: int) -> StepMemory:
        """The layout of decodes of a size, the same each time."""
        memory = self._decodes.get(padded)
        if memory is None:
            memory = self._decodes[padded] = self._staging.layout(padded, padded)
        return memory

    def _fill_mixed(self, batch: Batch, rows: np.ndarray, computed: np.ndarray) -> StepMemory:
        size, total = len(batch.requests), batch.num_tokens
        memory = self._staging.layout(total, size)
        counts = np.array(batch.counts, np.int64)
        memory.starts[0] = 0
        np.cumsum(counts, out=memory.starts[1:], dtype=np.int32)
        offsets = computed - memory.starts[:-1]
        np.add(self._counting[:total], np.repeat(offsets, counts), out=memory.positions)
        np.add(computed, counts, out=memory.seq_lens, casting="unsafe")
        self._fill_rows(memory, rows, np.repeat(rows, counts))
        return memory

    def _fill_rows(self, memory: StepMemory, rows: np.ndarray, flat_rows: np.ndarray) -> None:
        """What lies at the positions: ids, slots; and the tables as far as they are read."""
        size, total = len(rows), len(flat_rows)
        positions = memory.positions[:total]
        memory.token_ids[:total] = self.token_ids[flat_rows, positions]
        blocks, within = np.divmod(positions, self.block_size)
        slots = memory.slots[:total]
        np.multiply(self.block_tables[flat_rows, blocks], self.block_size, out=slots)
        slots += within
        columns = self._columns(memory)
        memory.block_tables[:size, :columns] = self.block_tables[rows, :columns]

    def _columns(self, memory: StepMemory) -> int:
        """Blocks of the step's longest request."""
        return -(-int(memory.seq_lens.max()) // self.block_size)

    def pack(self, inputs: StepInputs) -> bytes:
        """The step that was just prepared, for another rank: four counts, then the arrays."""
        memory = self._memory
        tokens, requests = len(memory.token_ids), len(memory.seq_lens)
        columns = self._columns(memory)
        counts = np.array([tokens, requests, columns, inputs.is_decode], np.int64)
        return b"".join(array.tobytes() for array in (counts, *memory.arrays(columns)))

    def unpack(self, step: bytes) -> StepInputs:
        """What `pack` made, in this rank's memory."""
        counts = np.frombuffer(step, np.int64, 4)
        tokens, requests, columns, is_decode = counts.tolist()
        self._staging.wait()
        if is_decode:
            memory = self._decode_memory(requests)
        else:
            memory = self._staging.layout(tokens, requests)
        place = counts.nbytes
        for array in memory.arrays(columns):
            array[:] = np.frombuffer(step, array.dtype, array.size, place).reshape(array.shape)
            place += array.nbytes
        return self._send(memory, np.arange(requests), bool(is_decode))
