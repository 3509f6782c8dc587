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
from vllm.kernels import ops
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
    num_tokens: int  # T


class InputBatch:
    """Rows for `max_num_seqs` requests of up to `max_model_len` tokens.

    `padded(B)`, at least B and at most `max_num_seqs`, is the size that a decode step of B requests
    is filled up to. Where `in_step`, whoever computes a decode step calls `fill_decode` first and
    `append_likeliest` last, so that a recorded step does both itself.
    """

    def __init__(
        self,
        max_num_seqs: int,
        max_model_len: int,
        max_num_batched_tokens: int,
        block_size: int,
        device: torch.device,
        padded: Callable[[int], int] = lambda size: size,
        in_step: bool = False,
    ) -> None:
        blocks = -(-max_model_len // block_size)
        self.block_size = block_size
        self.token_ids = np.empty((max_num_seqs, max_model_len + 1), np.int32)
        self.block_tables = np.zeros((max_num_seqs, blocks), np.int32)
        self._free_rows = list(range(max_num_seqs - 1, -1, -1))
        self._padded, self._in_step = padded, in_step
        self._staging = Staging(max_num_batched_tokens, max_num_seqs, blocks, device)
        most = max(max_num_batched_tokens, max_num_seqs + 1)
        self._counting = np.arange(most, dtype=np.int64)
        self._decodes: dict[int, StepMemory] = {}
        self._memory = self._staging.layout(0, 0)  # of the step under way
        # Who decodes, and the step's inputs: the same objects as long as nobody comes or goes.
        self._decoding: list[Request] = []
        self._decode_inputs: StepInputs | None = None
        self._decode_rows = torch.empty(max_num_seqs, dtype=torch.int64)
        self._num_computed = torch.empty(max_num_seqs, dtype=torch.int64)
        self._by_row = (torch.from_numpy(self.token_ids), torch.from_numpy(self.block_tables))

    def add(self, request: Request) -> None:
        """Give a request a row and write its tokens there."""
        row = request.row = self._free_rows.pop()
        self._decode_inputs = None
        prompt = request.num_prompt_tokens
        self.token_ids[row, :prompt] = request.prompt_token_ids
        if request.output_token_ids:
            self.token_ids[row, prompt : request.num_tokens] = request.output_token_ids

    def remove(self, request: Request) -> None:
        """Take the row back."""
        self._free_rows.append(request.row)
        request.row = -1
        self._decode_inputs = None

    def add_blocks(self, request: Request, position: int, blocks: list[int]) -> None:
        """Blocks `blocks` follow the first `position` ones of the request's table."""
        assert request.row >= 0, f"{request.request_id} got blocks and has no row"
        self.block_tables[request.row, position : position + len(blocks)] = blocks

    def append_tokens(self, rows: np.ndarray, positions: np.ndarray, ids: list[int]) -> None:
        """Token `ids[i]` is at `positions[i]` of row `rows[i]`."""
        self.token_ids[rows, positions] = ids

    def append_decoded(self, rows: np.ndarray, ids: list[int]) -> None:
        """The same after a decode step of these rows: each token follows its context."""
        self.token_ids[rows, self._memory.seq_lens[: len(rows)]] = ids

    def prepare(self, batch: Batch) -> StepInputs:
        """Fill the step's memory from the plan and send it to the device.

        For requests 0..B-1 with counts c and computed tokens p the flat order is

            token    0 .. c0-1 | c0 .. c0+c1-1 | ...
            position p0 ..     | p1 ..         | ...
        """
        if not batch.is_decode:
            return self._prepare_mixed(batch)
        inputs = self._decode_inputs
        if inputs is None or batch.requests != self._decoding:
            inputs = self._begin_decoding(batch.requests)
        if not self._in_step:
            self._staging.wait()
            self.fill_decode()
            self._staging.send(self._memory)
        return inputs

    def _prepare_mixed(self, batch: Batch) -> StepInputs:
        self._staging.wait()
        self._decode_inputs = None
        rows = _rows_of(batch.requests)
        memory = self._fill_mixed(batch, rows, _num_computed(batch.requests))
        self._send(memory)
        return _step_inputs(memory, rows, False)

    def _send(self, memory: StepMemory) -> None:
        self._memory = memory
        self._staging.send(memory)

    def _begin_decoding(self, requests: list[Request]) -> StepInputs:
        """Other requests than in the last step, one token each, and the rest nobody's."""
        size, rows = len(requests), _rows_of(requests)
        memory = self._memory = self._decode_memory(self._padded(size))
        decode_rows = self._decode_rows.numpy()
        decode_rows[:size], decode_rows[size:] = rows, -1
        self._num_computed.numpy()[:size] = _num_computed(requests)
        self._decoding = requests
        self._decode_inputs = _step_inputs(memory, rows, True)
        return self._decode_inputs

    def fill_decode(self) -> None:
        """Write the inputs of the decode step that was prepared; one more token of each request
        counts as computed.
        """
        ids, positions, slots, lens, starts, tables = self._memory.host_tensors
        computed, rows = self._num_computed[: len(ids)], self._decode_rows[: len(ids)]
        written = (ids, positions, slots, lens, starts, tables, computed)
        ops.fill_decode_inputs(*written, rows, *self._by_row, self.block_size)

    def append_likeliest(self, ids: Tensor) -> None:
        """`append_decoded` for every request of the decode step, `ids` i64 [T] on the CPU."""
        rows, lens = self._decode_rows[: len(ids)], self._memory.host_tensors[3]
        ops.append_tokens(self._by_row[0], rows, lens, ids)

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
        memory.token_ids[:] = self.token_ids[flat_rows, memory.positions]
        blocks, within = np.divmod(memory.positions, self.block_size)
        np.multiply(self.block_tables[flat_rows, blocks], self.block_size, out=memory.slots)
        memory.slots += within
        columns = self._columns(memory)
        memory.block_tables[:, :columns] = self.block_tables[rows, :columns]

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
        self._send(memory)
        return _step_inputs(memory, np.arange(requests), bool(is_decode))


def _rows_of(requests: list[Request]) -> np.ndarray:
    return np.array([request.row for request in requests], np.intp)


def _num_computed(requests: list[Request]) -> np.ndarray:
    return np.array([request.num_computed_tokens for request in requests], np.int64)


def _step_inputs(memory: StepMemory, rows: np.ndarray, is_decode: bool) -> StepInputs:
    ids, positions = memory.device_ids, memory.device_positions
    starts = memory.starts[: len(rows) + 1]
    num_tokens = len(memory.token_ids)
    return StepInputs(ids, positions, memory.attention, rows, starts, is_decode, num_tokens)
