# SPDX-License-Identifier: Apache-2.0
"""Paged attention against float64, prefill and decode mixed."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch.testing import assert_close

from tests.kernels import reference

TYPES = [
    (torch.float32, torch.float32),
    (torch.float32, torch.float16),
    (torch.float32, torch.bfloat16),
    (torch.float16, torch.float16),
    (torch.bfloat16, torch.bfloat16),
]

# float32 sums over up to 300 keys, rounded once to the type of `out`.
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}


@dataclass
class Batch:
    """Sequences in a cache whose unused slots are NaN, so that reading one shows."""

    q: torch.Tensor  # [tokens, heads, dim]
    keys: list[torch.Tensor]  # [context, kv_heads, dim] each
    values: list[torch.Tensor]
    k_cache: torch.Tensor
    v_cache: torch.Tensor
    block_tables: torch.Tensor
    seq_lens: torch.Tensor
    query_start: torch.Tensor
    scale: float
    window: int = 0
    soft_cap: float = 0.0


def paged(contexts, block_tables, block_size, blocks, dtype):
    """The rows of `contexts` [context, kv_heads, dim] in a paged cache."""
    kv_heads, dim = contexts[0].shape[1:]
    cache = torch.full((blocks, kv_heads, block_size, dim), torch.nan, dtype=dtype)
    for sequence, rows in enumerate(contexts):
        for position, row in enumerate(rows):
            block = int(block_tables[sequence, position // block_size])
            cache[block, :, position % block_size] = row
    return cache


def make_batch(queries, contexts, *, heads, kv_heads, dim, block_size, dtype, cache_dtype):
    pages = [(context + block_size - 1) // block_size for context in contexts]
    order = torch.randperm(sum(pages) + 3)  # three blocks stay unused
    tables = torch.full((len(queries), max(pages) + 1), -1, dtype=torch.int32)
    for sequence, count in enumerate(pages):
        first = sum(pages[:sequence])
        tables[sequence, :count] = order[first : first + count]
    keys = [torch.randn(c, kv_heads, dim).to(cache_dtype) for c in contexts]
    values = [torch.randn(c, kv_heads, dim).to(cache_dtype) for c in contexts]
    return Batch(
        q=torch.randn(sum(queries), heads, dim).to(dtype),
        keys=keys,
        values=values,
        k_cache=paged(keys, tables, block_size, len(order), cache_dtype),
        v_cache=paged(values, tables, block_size, len(order), cache_dtype),
        block_tables=tables,
        seq_lens=torch.tensor(contexts, dtype=torch.int32),
        query_start=torch.tensor([0, *torch.tensor(queries).cumsum(0)], dtype=torch.int32),
        scale=dim**-0.5,
    )


def run(cuda, batch: Batch) -> torch.Tensor:
    tokens, heads, dim = batch.q.shape
    q = torch.empty(tokens, heads * dim + 24, dtype=batch.q.dtype)[:, : heads * dim]
    q.copy_(batch.q.flatten(1))
    out = torch.full_like(q, torch.nan).to(cuda.device)
    cuda.paged_attention(
        out,
        q.to(cuda.device),
        batch.k_cache.to(cuda.device),
        batch.v_cache.to(cuda.device),
        batch.block_tables.to(cuda.device),
        batch.seq_lens.to(cuda.device),
        batch.query_start.to(cuda.device),
        batch.scale,
        batch.window,
        batch.soft_cap,
    )
    return out.cpu().reshape(tokens, heads, dim)


def expected(batch: Batch) -> torch.Tensor:
    parts = [
        reference.attention(
            batch.q[begin:end], keys, values, batch.scale, batch.window, batch.soft_cap
        )
        for begin, end, keys, values in zip(
            batch.query_start[:-1], batch.query_start[1:], batch.keys, batch.values, strict=True
        )
    ]
    return torch.cat(parts)


def check(cuda, batch: Batch) -> None:
    tolerance = TOLERANCE[batch.q.dtype]
    assert_close(run(cuda, batch).double(), expected(batch), rtol=tolerance, atol=tolerance / 4)


@pytest.mark.parametrize(("dtype", "cache_dtype"), TYPES)
@pytest.mark.parametrize("dim", [8, 48, 64, 80, 128, 256])
def test_dims_and_types(cuda, dim, dtype, cache_dtype):
    shape = dict(heads=4, kv_heads=2, dim=dim, block_size=16)
    check(cuda, make_batch([1, 6], [37, 20], **shape, dtype=dtype, cache_dtype=cache_dtype))


# DeepSeek's latent vectors: 576 dims, which all heads share.
@pytest.mark.parametrize(("dtype", "cache_dtype"), TYPES)
@pytest.mark.parametrize("dim", [264, 576, 768])
def test_wide_heads(cuda, dim, dtype, cache_dtype):
    shape = dict(heads=9, kv_heads=1, dim=dim, block_size=16)
    batch = make_batch([1, 3], [700, 20], **shape, dtype=dtype, cache_dtype=cache_dtype)
    check(cuda, batch)
    batch.window = 30
    check(cuda, batch)


# Rows of a block are tokens x heads <= 8: groups that divide 8, that don't, and larger ones.
@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (2, 2), (9, 3), (8, 1), (12, 1), (20, 2)])
def test_groups(cuda, heads, kv_heads):
    shape = dict(heads=heads, kv_heads=kv_heads, dim=16, block_size=16)
    types = dict(dtype=torch.float32, cache_dtype=torch.float32)
    check(cuda, make_batch([3, 1, 9], [3, 70, 40], **shape, **types))


# Tiles have 32 keys and 8 warps take turns: contexts around 32 and 256, block sizes across both.
@pytest.mark.parametrize("block_size", [1, 5, 16, 64])
def test_contexts_and_blocks(cuda, block_size):
    contexts = [1, 31, 32, 33, 255, 256, 257, 300]
    shape = dict(heads=2, kv_heads=1, dim=16, block_size=block_size)
    types = dict(dtype=torch.float32, cache_dtype=torch.float32)
    check(cuda, make_batch([1] * len(contexts), contexts, **shape, **types))


def test_sequences_without_queries_are_skipped(cuda):
    shape = dict(heads=3, kv_heads=1, dim=16, block_size=16)
    types = dict(dtype=torch.float32, cache_dtype=torch.float32)
    check(cuda, make_batch([0, 2, 0, 0, 5, 0], [10, 20, 1, 40, 5, 3], **shape, **types))


def test_scores_that_would_overflow_exp(cuda):
    shape = dict(heads=2, kv_heads=1, dim=16, block_size=16)
    types = dict(dtype=torch.float32, cache_dtype=torch.float32)
    batch = make_batch([4], [90], **shape, **types)
    batch.scale = 100.0
    assert_close(run(cuda, batch).double(), expected(batch), rtol=1e-2, atol=1e-3)


def one_sequence(batch: Batch, index: int, begin: int, end: int) -> Batch:
    """Queries begin..end of one sequence alone, with the context they had."""
    first, last = int(batch.query_start[index]), int(batch.query_start[index + 1])
    length = int(batch.seq_lens[index]) - (last - first) + end
    return Batch(
        **{
            **batch.__dict__,
            "q": batch.q[first + begin : first + end],
            "block_tables": batch.block_tables[index : index + 1],
            "seq_lens": torch.tensor([length], dtype=torch.int32),
            "query_start": torch.tensor([0, end - begin], dtype=torch.int32),
        }
    )


@pytest.mark.parametrize(("heads", "kv_heads"), [(2, 2), (9, 3)])
def test_batched_chunked_and_single_runs_are_equal_bit_by_bit(cuda, heads, kv_heads):
    shape = dict(heads=heads, kv_heads=kv_heads, dim=16, block_size=16)
    types = dict(dtype=torch.float32, cache_dtype=torch.float32)
    batch = make_batch([7, 14, 1], [7, 290, 280], **shape, **types)
    together = run(cuda, batch)
    chunks = [(0, 5), (5, 6), (6, 14)]
    apart = torch.cat([run(cuda, one_sequence(batch, 1, *chunk)) for chunk in chunks])
    assert torch.equal(together[7:21], apart)
    assert torch.equal(together[21:], run(cuda, one_sequence(batch, 2, 0, 1)))


PLAIN = dict(dtype=torch.float32, cache_dtype=torch.float32)


# Slots of 512 keys go to several blocks where there are few tokens, to one where there are many.
# After 16 slots, at 8,192 keys, the first has its turn again.
@pytest.mark.parametrize("context", [511, 513, 1500, 8195, 8800])
def test_contexts_of_several_slots(cuda, context):
    shape = dict(heads=2, kv_heads=1, dim=8, block_size=64)
    check(cuda, make_batch([1], [context], **shape, **PLAIN))


def test_blocks_that_share_a_row_and_one_block_give_equal_bits(cuda):
    shape = dict(heads=1, kv_heads=1, dim=8, block_size=16)
    batch = make_batch([1] * 300, [1300] + [1] * 299, **shape, **PLAIN)  # too many for splits
    alone = run(cuda, one_sequence(batch, 0, 0, 1))
    assert torch.equal(run(cuda, batch)[:1], alone)


@pytest.mark.parametrize("window", [1, 7, 32, 600, 5000])
@pytest.mark.parametrize("queries", [1, 9])
def test_windows(cuda, queries, window):
    shape = dict(heads=4, kv_heads=2, dim=16, block_size=16)
    batch = make_batch([queries, 2], [1203, 40], **shape, **PLAIN)
    batch.window = window
    # What no token sees may have been given to somebody else since.
    for sequence, (count, context) in enumerate([(queries, 1203), (2, 40)]):
        unseen = max(0, context - count + 1 - window) // 16
        batch.block_tables[sequence, :unseen] = -1
    check(cuda, batch)


@pytest.mark.parametrize("soft_cap", [0.5, 30.0])
def test_soft_caps(cuda, soft_cap):
    shape = dict(heads=4, kv_heads=2, dim=16, block_size=16)
    batch = make_batch([3, 1], [50, 700], **shape, **PLAIN)
    batch.scale, batch.soft_cap = 2.0, soft_cap
    check(cuda, batch)


# From 16 tokens of a sequence on, 16-bit types of these head dims go through the tensor cores, with
# weights of values in 16 bits; blocks have 64 rows, tiles 32 keys.
PROMPT_TYPES = [torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", PROMPT_TYPES)
@pytest.mark.parametrize("dim", [64, 128])
def test_prompts(cuda, dim, dtype):
    shape = dict(heads=4, kv_heads=2, dim=dim, block_size=16, dtype=dtype, cache_dtype=dtype)
    check(cuda, make_batch([1, 40, 15, 16, 0, 33], [37, 40, 40, 100, 9, 33], **shape))


@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (9, 3), (20, 1), (70, 1)])
def test_groups_of_prompts(cuda, heads, kv_heads):
    types = dict(dtype=torch.bfloat16, cache_dtype=torch.bfloat16)
    check(cuda, make_batch([70, 17], [75, 40], heads=heads, kv_heads=kv_heads, dim=64,
                           block_size=5, **types))  # fmt: skip


@pytest.mark.parametrize("window", [1, 7, 32, 100])
def test_windows_of_prompts(cuda, window):
    types = dict(dtype=torch.float16, cache_dtype=torch.float16)
    batch = make_batch([30], [203], heads=4, kv_heads=2, dim=64, block_size=16, **types)
    batch.window = window
    batch.block_tables[0, : max(0, 203 - 30 + 1 - window) // 16] = -1
    check(cuda, batch)


def test_soft_caps_of_prompts(cuda):
    types = dict(dtype=torch.float16, cache_dtype=torch.float16)
    batch = make_batch([30], [50], heads=4, kv_heads=2, dim=64, block_size=16, **types)
    batch.scale, batch.soft_cap = 0.5, 5.0
    check(cuda, batch)


def test_prompts_are_independent_of_the_batch_and_of_the_cut(cuda):
    types = dict(dtype=torch.bfloat16, cache_dtype=torch.bfloat16)
    batch = make_batch(
        [5, 70, 1], [7, 190, 80], heads=3, kv_heads=1, dim=64, block_size=16, **types
    )
    together = run(cuda, batch)
    chunks = [(0, 16), (16, 37), (37, 70)]
    apart = torch.cat([run(cuda, one_sequence(batch, 1, *chunk)) for chunk in chunks])
    assert torch.equal(together[5:75], apart)
    assert torch.equal(together[75:], run(cuda, one_sequence(batch, 2, 0, 1)))


def test_no_tokens(cuda):
    shape = dict(heads=2, kv_heads=1, dim=16, block_size=16)
    types = dict(dtype=torch.float32, cache_dtype=torch.float32)
    assert run(cuda, make_batch([0], [5], **shape, **types)).numel() == 0


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_long_contexts(gpu, dtype):
    shape = dict(heads=32, kv_heads=8, dim=128, block_size=16)
    check(gpu, make_batch([1, 500, 1], [3000, 700, 9], **shape, dtype=dtype, cache_dtype=dtype))
    check(gpu, make_batch([1, 1], [9000, 70], **shape, dtype=dtype, cache_dtype=dtype))
