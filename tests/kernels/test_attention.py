# SPDX-License-Identifier: Apache-2.0
"""Paged attention against float64: prefill, decode and both in one step, over scattered blocks."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from tests.kernels import reference
from vllm.kernels import ops


class Batch:
    """Sequences of (context, query tokens) in a cache whose blocks are in random order."""

    def __init__(self, sequences, heads, kv_heads, head_dim, block_size, dtype):
        blocks = [-(-context // block_size) for context, _ in sequences]
        order = torch.randperm(sum(blocks) + 2).to(torch.int32)
        self.keys, self.values = (
            torch.randn(len(order), kv_heads, block_size, head_dim).to(dtype) for _ in range(2)
        )
        self.tables = torch.full((len(sequences), max([*blocks, 1])), -7, dtype=torch.int32)
        used = 0
        for row, count in enumerate(blocks):
            self.tables[row, :count] = order[used : used + count]
            used += count
        self.lens = torch.tensor([context for context, _ in sequences], dtype=torch.int32)
        counts = torch.tensor([0] + [queries for _, queries in sequences])
        self.starts = counts.cumsum(0).to(torch.int32)
        self.heads, self.head_dim, self.scale = heads, head_dim, head_dim**-0.5
        self.q = reference.wide(heads * head_dim, int(self.starts[-1]))

    def run(self, rows=slice(None), q=None, starts=None, window=0, soft_cap=0.0):
        q = self.q if q is None else q
        out = torch.full(q.shape, torch.nan)
        ops.paged_attention(
            out, q, self.keys, self.values, self.tables[rows], self.lens[rows],
            self.starts if starts is None else starts, self.scale, window, soft_cap,
        )  # fmt: skip
        return out

    def context(self, cache, row):
        length = int(self.lens[row])
        kv_heads, block_size = cache.shape[1:3]
        count = -(-length // block_size)
        rows = cache[self.tables[row, :count].long()].transpose(1, 2)
        return rows.reshape(-1, kv_heads, self.head_dim)[:length]

    def expected(self, window=0, soft_cap=0.0):
        parts = []
        for row in range(len(self.lens)):
            q = self.q[self.starts[row] : self.starts[row + 1]]
            q = q.reshape(len(q), self.heads, self.head_dim)
            context = [self.context(cache, row) for cache in (self.keys, self.values)]
            parts.append(reference.attention(q, *context, self.scale, window, soft_cap).flatten(1))
        return torch.cat(parts)


MIXED = [(1, 1), (17, 1), (40, 40), (100, 3), (16, 16), (65, 9), (250, 1)]
SHAPES = [
    (9, 3, 64, 16),  # SmolLM2
    (6, 6, 48, 16),  # TinyStories
    (4, 1, 128, 8),
    (40, 1, 32, 16),
    (2, 2, 10, 5),
    (2, 1, 7, 3),
    (1, 1, 256, 16),
    (2, 1, 272, 16),
    (16, 1, 576, 16),  # DeepSeek V2 Lite
    (2, 1, 592, 16),  # wider than the vector kernels take
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_mixed_batch(shape, dtype):
    batch = Batch(MIXED, *shape, dtype)
    # Weights sum to 1 and values are near 1: the error is that of exp and of f32 sums.
    assert_close(batch.run().double(), batch.expected(), rtol=3e-5, atol=3e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", [1, 5, 16, 33, 64, 1000])
@pytest.mark.parametrize("shape", [(9, 3, 64, 16), (4, 1, 128, 8), (2, 2, 10, 5), (2, 1, 272, 16)])
def test_window(shape, window, dtype):
    batch = Batch(MIXED, *shape, dtype)
    found = batch.run(window=window).double()
    assert_close(found, batch.expected(window), rtol=3e-5, atol=3e-6)


@pytest.mark.parametrize("window", [0, 20])
@pytest.mark.parametrize("shape", [(4, 1, 128, 8), (8, 4, 256, 16), (2, 1, 272, 16)])
def test_soft_cap(shape, window):
    batch = Batch(MIXED, *shape, torch.float32)
    batch.q = batch.q * 20
    found = batch.run(window=window, soft_cap=30.0).double()
    # The cap rounds scores of up to 30 to some 4e-6, sums of 256 products near 20 to about as much;
    # weights are off by that share, values are near 1.
    assert_close(found, batch.expected(window, 30.0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("window", [7, 40])
def test_what_lies_outside_of_the_window_is_not_read(window):
    batch = Batch([(90, 1), (60, 12)], 6, 2, 64, 16, torch.float32)
    expected = batch.run(window=window)
    for row, queries in enumerate((1, 12)):
        gone = (int(batch.lens[row]) - queries + 1 - window) // 16 // 2 * 2  # whole tiles
        for cache in (batch.keys, batch.values):
            cache[batch.tables[row, : max(0, gone)].long()] = torch.nan
    assert torch.equal(batch.run(window=window), expected)


def test_peaked_scores():
    """Large scores: the running maximum has to be taken out before exp, and rescaled later."""
    batch = Batch([(90, 5), (33, 1)], 3, 1, 64, 16, torch.float32)
    batch.q = batch.q * 60
    assert_close(batch.run().double(), batch.expected(), rtol=2e-4, atol=2e-5)


def test_no_tokens():
    batch = Batch([], 3, 1, 64, 16, torch.float32)
    assert batch.run().shape == (0, 192)


def test_sequence_without_queries_is_skipped():
    batch = Batch([(20, 1), (0, 0), (33, 2)], 3, 1, 64, 16, torch.float32)
    assert_close(batch.run().double(), batch.expected(), rtol=3e-5, atol=3e-6)


def test_long_context():
    batch = Batch([(1500, 1), (1030, 20)], 9, 3, 64, 16, torch.bfloat16)
    assert_close(batch.run().double(), batch.expected(), rtol=3e-5, atol=3e-6)


def test_alone_equals_in_a_batch():
    """A sequence's result does not depend on its neighbours, in any mode."""
    batch = Batch(MIXED, 9, 3, 64, 16, torch.float32)
    together = batch.run()
    for row in range(len(MIXED)):
        part = slice(int(batch.starts[row]), int(batch.starts[row + 1]))
        starts = torch.tensor([0, part.stop - part.start], dtype=torch.int32)
        alone = batch.run(slice(row, row + 1), batch.q[part], starts)
        assert torch.equal(alone, together[part])
