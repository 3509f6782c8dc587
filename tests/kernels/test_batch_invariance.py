# SPDX-License-Identifier: Apache-2.0
"""A token's result does not depend on the tokens computed with it.

The scalar kernels promise it; the vector kernels sum in the same order for every batch as well, so
the tests hold on every ISA.
"""

from __future__ import annotations

import pytest
import torch

from tests.kernels import reference
from vllm.kernels import ops


def row_by_row(op, x):
    return torch.cat([op(x[i : i + 1]) for i in range(len(x))])


def chunk_by_chunk(op, x, sizes):
    return torch.cat([op(part) for part in x.split(sizes)])


def check(op, rows, columns):
    x = torch.randn(rows, columns)
    together = op(x)
    assert torch.equal(row_by_row(op, x), together)
    assert torch.equal(chunk_by_chunk(op, x, [3, 9, rows - 12]), together)
    order = torch.randperm(rows)
    assert torch.equal(op(x[order]), together[order])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("k", [99, 2100])
def test_linear(k, dtype):
    weight, bias = reference.tiled(torch.randn(37, k).to(dtype)), torch.randn(37)

    def op(x):
        out = torch.empty(len(x), 37)
        ops.linear(out, x, weight, bias)
        return out

    check(op, 21, k)
    check(op, 150, k)


@pytest.mark.parametrize("qtype", reference.QTYPES)
def test_quant_linear(qtype):
    k = reference.columns_for(qtype, 96)
    packed = ops.quant_repack(reference.random_blocks(qtype, 50, k), qtype, 50, k)

    def op(x):
        out = torch.empty(len(x), 50)
        ops.quant_linear(out, x, packed, qtype, 50, k, coarse=32)
        return out

    check(op, 21, k)
    check(op, 300, k)


def test_norm_and_activation():
    weight = torch.randn(50)

    def op(x):
        out = torch.empty(len(x), 50)
        ops.silu_and_mul(out, x)
        ops.rms_norm(out, out, weight, 1e-6)
        return out

    check(op, 40, 100)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sizes", [[1] * 50, [50], [17, 33], [16, 16, 16, 2], [1, 48, 1]])
def test_chunked_prefill(sizes, dtype):
    """A prompt computed in any pieces gives the same rows as one token at a time."""
    heads, kv_heads, head_dim = 6, 2, 32
    keys, values = (torch.randn(8, kv_heads, 16, head_dim).to(dtype) for _ in range(2))
    table = torch.randperm(8).to(torch.int32)[None]
    q = torch.randn(50, heads * head_dim)

    def attend(first, last):
        out = torch.empty(last - first, heads * head_dim)
        lens = torch.tensor([last], dtype=torch.int32)
        starts = torch.tensor([0, last - first], dtype=torch.int32)
        ops.paged_attention(out, q[first:last], keys, values, table, lens, starts, 0.2)
        return out

    ends = torch.tensor(sizes).cumsum(0).tolist()
    pieces = torch.cat([attend(e - n, e) for e, n in zip(ends, sizes, strict=True)])
    assert torch.equal(pieces, torch.cat([attend(i, i + 1) for i in range(50)]))


def test_sampling():
    logits, uniform = torch.randn(12, 300), torch.rand(12, dtype=torch.float64)
    ones = torch.ones(12)

    def draw(rows):
        out = torch.empty(len(logits[rows]), dtype=torch.int64)
        top_k = torch.full_like(out, 40, dtype=torch.int32)
        ops.sample_top_k_top_p(
            out, logits[rows], ones[rows], top_k, ones[rows] * 0.9, ones[rows] * 0, uniform[rows]
        )
        return out

    alone = torch.cat([draw(slice(i, i + 1)) for i in range(12)])
    assert torch.equal(alone, draw(slice(None)))
