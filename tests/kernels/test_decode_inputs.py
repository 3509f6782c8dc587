# SPDX-License-Identifier: Apache-2.0
"""The ops around the model in a decode step: inputs cut from rows, tokens put back into them."""

from __future__ import annotations

import pytest
import torch

from vllm.kernels import ops
from vllm.kernels.recording import Recording

ROWS, WIDTH, BLOCKS, BLOCK_SIZE = 5, 40, 10, 4
I32, I64 = torch.int32, torch.int64


class Step:
    """Arguments of a step of requests in `rows`, with so many tokens computed."""

    def __init__(self, rows: list[int], num_computed: list[int]) -> None:
        size = len(rows)
        self.rows = torch.tensor(rows)
        self.num_computed = torch.tensor(num_computed)
        self.row_tokens = torch.arange(ROWS * WIDTH, dtype=I32).view(ROWS, WIDTH)
        self.row_blocks = torch.randperm(ROWS * BLOCKS).to(I32).view(ROWS, BLOCKS)
        self.ids, self.positions, self.slots = (torch.full((size,), 99) for _ in range(3))
        self.lens = torch.full((size,), 99, dtype=I32)
        self.starts = torch.full((size + 1,), 99, dtype=I32)
        self.tables = torch.full((size, BLOCKS), 99, dtype=I32)

    def fill(self) -> None:
        ops.fill_decode_inputs(
            self.ids, self.positions, self.slots, self.lens, self.starts, self.tables,
            self.num_computed, self.rows, self.row_tokens, self.row_blocks, BLOCK_SIZE,
        )  # fmt: skip

    def check(self, computed: list[int]) -> None:
        """The inputs are those of requests with so many tokens computed."""
        places = list(zip(self.rows.tolist(), computed, strict=True))
        assert self.positions.tolist() == computed
        assert self.num_computed.tolist() == [position + 1 for position in computed]
        assert self.lens.tolist() == [position + 1 for position in computed]
        assert self.starts.tolist() == list(range(len(places) + 1))
        assert self.ids.tolist() == [int(self.row_tokens[place]) for place in places]
        for index, (row, position) in enumerate(places):
            block, within = divmod(position, BLOCK_SIZE)
            assert self.slots[index] == self.row_blocks[row, block] * BLOCK_SIZE + within
            assert torch.equal(self.tables[index, : block + 1], self.row_blocks[row, : block + 1])


def test_inputs_are_those_of_the_next_token_each_time() -> None:
    step = Step([3, 0, 4], [0, 7, 37])
    step.fill()
    step.check([0, 7, 37])
    step.fill()
    step.check([1, 8, 38])


def test_nobody_writes_nowhere_and_reads_one_token() -> None:
    step = Step([2, -1], [5, 99])
    step.fill()
    assert step.positions.tolist() == [5, 0]
    assert (step.ids[1], step.slots[1], step.lens[1], step.tables[1, 0]) == (0, -1, 1, 0)
    assert step.starts.tolist() == [0, 1, 2]
    assert step.num_computed.tolist() == [6, 99]


def test_no_requests_are_fine() -> None:
    step = Step([], [])
    step.ids, step.positions = torch.empty(0, dtype=I64), torch.empty(0, dtype=I64)
    step.rows, step.num_computed = torch.empty(0, dtype=I64), torch.empty(0, dtype=I64)
    step.fill()
    assert step.starts.tolist() == [0]


def test_tokens_go_to_their_rows_but_nobodys() -> None:
    step = Step([3, -1, 0], [0, 0, 0])
    before = step.row_tokens.clone()
    places = torch.tensor([6, 2, 39], dtype=I32)
    ops.append_tokens(step.row_tokens, step.rows, places, torch.tensor([11, 12, 13]))
    before[3, 6], before[0, 39] = 11, 13
    assert torch.equal(step.row_tokens, before)


def test_a_replayed_step_goes_on_by_itself() -> None:
    step = Step([1, 2], [3, 4])
    token = torch.tensor([1000, 2000])

    def calls() -> None:
        step.fill()
        ops.append_tokens(step.row_tokens, step.rows, step.lens, token)

    recording = Recording(calls)
    step.check([3, 4])
    token += 1
    recording.replay()
    step.check([4, 5])
    assert step.ids.tolist() == [1000, 2000]
    assert (step.row_tokens[1, 5], step.row_tokens[2, 6]) == (1001, 2001)


@pytest.mark.parametrize(
    ("rows", "computed", "told"),
    [
        ([5], [0], "rows entry 0 is 5, expected 0 to 4"),
        ([1, 1], [3, 40], "num_computed entry 1 is 40, expected 0 to 39"),
        ([1], [-1], "num_computed entry 0 is -1, expected 0 to 39"),
    ],
)
def test_what_lies_outside_is_refused(rows: list[int], computed: list[int], told: str) -> None:
    with pytest.raises(RuntimeError, match=f"fill_decode_inputs: {told}"):
        Step(rows, computed).fill()


def test_a_token_outside_of_its_row_is_refused() -> None:
    step = Step([1], [0])
    place = torch.tensor([WIDTH], dtype=I32)
    with pytest.raises(RuntimeError, match="append_tokens: positions entry 0 is 40, expected 0 to"):
        ops.append_tokens(step.row_tokens, step.rows, place, torch.tensor([1]))


def test_wrong_arguments_are_named() -> None:
    step = Step([1], [0])
    step.tables = step.tables[:, 1:]
    with pytest.raises(RuntimeError, match=r"fill_decode_inputs: block_tables has shape \[1, 9\]"):
        step.fill()
    with pytest.raises(RuntimeError, match="append_tokens: rows has dtype int32, expected int64"):
        ops.append_tokens(step.row_tokens, step.rows.int(), step.lens, step.ids)
