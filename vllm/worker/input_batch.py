# SPDX-License-Identifier: Apache-2.0
"""Tensors of the running requests, one row each, and the inputs of a step cut from them.

Owns rows: token ids, block tables, counts. Must not know sampling, models or why a request runs.
Everything is allocated once; a step writes into the same arrays, so that steps with the same
number of tokens and requests find their inputs at the same place (recorded steps depend on it). The
arrays are numpy's, because a small numpy operation costs a third of a small torch one, and torch
tensors share their memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vllm.engine.request import Request
from vllm.layers.attention import AttentionInputs
from vllm.scheduler.batch import Batch


@dataclass(slots=True)
class StepInputs:
    """What the model is given: T tokens of B requests."""

    token_ids: Tensor  # i64 [T]
    positions: Tensor  # i64 [T]
    attention: AttentionInputs
    rows: np.ndarray  # intp [B]: the requests' rows, in the order of the batch
    starts: np.ndarray  # i32 [B + 1]: query_start_loc, on the CPU


class InputBatch:
    """Rows for `max_num_seqs` requests of up to `max_model_len` tokens."""

    def __init__(
        self,
        max_num_seqs: int,
        max_model_len: int,
        max_num_batched_tokens: int,
        block_size: int,
        device: torch.device,
    ) -> None:
        blocks = -(-max_model_len // block_size)
        self.block_size = block_size
        self.device = device
        self.token_ids = np.empty((max_num_seqs, max_model_len + 1), np.int32)
        self.block_tables = np.zeros((max_num_seqs, blocks), np.int32)
        self._free_rows = list(range(max_num_seqs - 1, -1, -1))
        tokens = max_num_batched_tokens
        self._ids = np.empty(tokens, np.int64)
        self._positions = np.empty(tokens, np.int64)
        self._slots = np.empty(tokens, np.int64)
        self._tables = np.zeros((max_num_seqs, blocks), np.int32)
        self._seq_lens = np.empty(max_num_seqs, np.int32)
        self._starts = np.zeros(max_num_seqs + 1, np.int32)
        self._counting = np.arange(max(tokens, max_num_seqs + 1), dtype=np.int64)
        self._decodes: dict[int, StepInputs] = {}

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
        self.token_ids[rows, self._seq_lens[: len(rows)]] = ids

    def prepare(self, batch: Batch) -> StepInputs:
        """Fill the step's arrays from the plan.

        For requests 0..B-1 with counts c and computed tokens p the flat order is

            token    0 .. c0-1 | c0 .. c0+c1-1 | ...
            position p0 ..     | p1 ..         | ...
        """
        size, total = len(batch.requests), batch.num_tokens
        rows = np.array([request.row for request in batch.requests], np.intp)
        computed = np.array([r.num_computed_tokens for r in batch.requests], np.int64)
        if total == size:  # decodes only: one token each
            flat_rows = rows
            positions = self._positions[:size]
            positions[:] = computed
            starts = self._starts[: size + 1]
            starts[:] = self._counting[: size + 1]
            np.add(computed, 1, out=self._seq_lens[:size], casting="unsafe")
        else:
            flat_rows, positions, starts = self._spread(batch, rows, computed)
        self._ids[:total] = self.token_ids[flat_rows, positions]
        self._map_slots(flat_rows, positions)
        return self._inputs(rows, starts, size, total)

    def _spread(
        self, batch: Batch, rows: np.ndarray, computed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        size, total = len(batch.requests), batch.num_tokens
        counts = np.array(batch.counts, np.int64)
        starts = self._starts[: size + 1]
        np.cumsum(counts, out=starts[1:], dtype=np.int32)
        starts[0] = 0
        offsets = computed - starts[:-1]
        positions = self._positions[:total]
        np.add(self._counting[:total], np.repeat(offsets, counts), out=positions)
        np.add(computed, counts, out=self._seq_lens[:size], casting="unsafe")
        return np.repeat(rows, counts), positions, starts

    def _map_slots(self, flat_rows: np.ndarray, positions: np.ndarray) -> None:
        slots = self._slots[: len(positions)]
        blocks, within = np.divmod(positions, self.block_size)
        np.multiply(self.block_tables[flat_rows, blocks], self.block_size, out=slots)
        slots += within

    def _inputs(self, rows: np.ndarray, starts: np.ndarray, size: int, total: int) -> StepInputs:
        columns = -(-int(self._seq_lens[:size].max()) // self.block_size)
        self._tables[:size, :columns] = self.block_tables[rows, :columns]
        if total > size or self.device.type != "cpu":
            return self._wrap(rows, starts, size, total)
        # On the CPU the tensors of decodes of one size are the same memory each time.
        inputs = self._decodes.get(size)
        if inputs is None:
            inputs = self._decodes[size] = self._wrap(rows, starts, size, total)
        inputs.rows = rows
        return inputs

    def _wrap(self, rows: np.ndarray, starts: np.ndarray, size: int, total: int) -> StepInputs:
        attention = AttentionInputs(
            slot_mapping=self._tensor(self._slots[:total]),
            block_tables=self._tensor(self._tables[:size]),
            seq_lens=self._tensor(self._seq_lens[:size]),
            query_start_loc=self._tensor(starts),
        )
        ids, positions = self._ids[:total], self._positions[:total]
        return StepInputs(self._tensor(ids), self._tensor(positions), attention, rows, starts)

    def _tensor(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(array)
        return tensor if self.device.type == "cpu" else tensor.to(self.device)
