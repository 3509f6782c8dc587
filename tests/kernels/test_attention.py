# SPDX-License-Identifier: Apache-2.0
"""Paged attention against float64: prefill, decode and both in one step, over scattered blocks."""

from __future__ import annotations

import pytest
import torch

from tests.kernels import reference
from vllm.kernels import ops

# What multiplies pairs of bfloat16 where the cache holds them, and so rounds queries and weights.
ROUNDS = ops.CPU_ISA in ("avx512", "amx")
LOG2_E = torch.tensor(1.44269504)  # f32, as the factors that it is multiplied with


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
        self.rounds = ROUNDS and dtype == torch.bfloat16 and head_dim <= 576

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

    def attend(self, window, soft_cap, power):
        """Float64, with the values to this power; queries as the kernel rounds them."""
        parts = []
        for row in range(len(self.lens)):
            q = self.q[self.starts[row] : self.starts[row + 1]]
            if self.rounds:
                factor = torch.tensor(self.scale) * (1 if soft_cap else LOG2_E)
                q = (q * factor).bfloat16().double() / factor.double()
            q = q.reshape(len(q), self.heads, self.head_dim)
            keys, values = (self.context(cache, row).double() for cache in (self.keys, self.values))
            parts.append(
                reference.attention(q, keys, values**power, self.scale, window, soft_cap).flatten(1)
            )
        return torch.cat(parts)

    def check(self, window=0, soft_cap=0.0, rtol=3e-5, atol=3e-6):
        """Weights w that are each off by up to 2^-8 of themselves, and 4.2e-5 for a short e^x, move
        the mean of v by no more than that times the mean of |v - mean|, nor than the deviation.
        """
        found = self.run(window=window, soft_cap=soft_cap).double()
        expected = self.attend(window, soft_cap, 1)
        allowed = rtol * expected.abs() + atol
        if self.rounds:
            variance = self.attend(window, soft_cap, 2) - expected**2
            allowed += 1.01 * (2**-8 + 4.2e-5) * variance.clamp(min=0).sqrt()
        worst = float(((found - expected).abs() / allowed).nan_to_num(nan=torch.inf).max())
        assert worst <= 1, f"{worst:.3g} of what is allowed"


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
    batch.check()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", [1, 5, 16, 33, 64, 1000])
@pytest.mark.parametrize("shape", [(9, 3, 64, 16), (4, 1, 128, 8), (2, 2, 10, 5), (2, 1, 272, 16)])
def test_window(shape, window, dtype):
    batch = Batch(MIXED, *shape, dtype)
    batch.check(window)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", [0, 20])
@pytest.mark.parametrize("shape", [(4, 1, 128, 8), (8, 4, 256, 16), (2, 1, 272, 16)])
def test_soft_cap(shape, window, dtype):
    batch = Batch(MIXED, *shape, dtype)
    batch.q = batch.q * 20
    # The cap rounds scores of up to 30 to some 4e-6, sums of 256 products near 20 to about as much;
    # weights are off by that share, values are near 1.
    batch.check(window, 30.0, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", [7, 40])
def test_what_lies_outside_of_the_window_is_not_read(window, dtype):
    batch = Batch([(90, 1), (60, 12)], 6, 2, 64, 16, dtype)
    expected = batch.run(window=window)
    for row, queries in enumerate((1, 12)):
        gone = (int(batch.lens[row]) - queries + 1 - window) // 16  # whole blocks
        for cache in (batch.keys, batch.values):
            cache[batch.tables[row, : max(0, gone)].long()] = torch.nan
    assert torch.equal(batch.run(window=window), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [3, 60])
def test_peaked_scores(size, dtype):
    """Large scores: the running maximum has to be taken out before exp, and rescaled later."""
    batch = Batch([(90, 5), (33, 1), (200, 70)], 3, 1, 64, 16, dtype)
    batch.q = batch.q * size
    batch.check(rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scores_that_grow_along_the_context(dtype):
    """Each tile exceeds what the weights are relative to: by less than is let pass, and by more."""
    batch = Batch([(300, 1), (300, 30)], 3, 1, 64, 16, dtype)
    for row in range(2):
        for i, block in enumerate(batch.tables[row, :19].tolist()):
            batch.keys[block] = batch.keys[block] * 0.01 + 0.12 * i
    batch.q = batch.q * 0.2 + 1
    batch.check(rtol=2e-4, atol=2e-5)


def test_no_tokens():
    batch = Batch([], 3, 1, 64, 16, torch.float32)
    assert batch.run().shape == (0, 192)


def test_sequence_without_queries_is_skipped():
    batch = Batch([(20, 1), (0, 0), (33, 2)], 3, 1, 64, 16, torch.float32)
    batch.check()


def test_long_context():
    batch = Batch([(1500, 1), (1030, 20)], 9, 3, 64, 16, torch.bfloat16)
    batch.check()


def test_alone_equals_in_a_batch():
    """A sequence's result does not depend on its neighbours, in any mode."""
    batch = Batch(MIXED, 9, 3, 64, 16, torch.float32)
    together = batch.run()
    for row in range(len(MIXED)):
        part = slice(int(batch.starts[row]), int(batch.starts[row + 1]))
        starts = torch.tensor([0, part.stop - part.start], dtype=torch.int32)
        alone = batch.run(slice(row, row + 1), batch.q[part], starts)
        assert torch.equal(alone, together[part])
