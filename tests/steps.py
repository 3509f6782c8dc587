# SPDX-License-Identifier: Apache-2.0
"""Random steps of attention: caches with keys and values, and what the layer is given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vllm.layers.attention import AttentionInputs, LayerCache

BLOCK = 4


@dataclass
class Step:
    """Rows q [T, heads * head_dim], k and v [T, kv_heads * head_dim], in one wider tensor."""

    q: Tensor
    k: Tensor
    v: Tensor
    cache: LayerCache
    inputs: AttentionInputs


def random_step(
    sequences: list[tuple[int, int]],
    heads: int = 4,
    kv_heads: int = 2,
    head_dim: int = 16,
    dtype: torch.dtype = torch.float32,
    kv_dtype: torch.dtype | None = None,
    device: str = "cpu",
) -> Step:
    """`sequences` are (tokens in the cache before, tokens of this step)."""
    before, counts = (np.array(column, np.int32) for column in zip(*sequences, strict=True))
    lens, starts = before + counts, np.r_[0, counts.cumsum()].astype(np.int32)
    columns = -(-int(lens.max()) // BLOCK)
    generator = torch.Generator().manual_seed(int(starts[-1]))
    order = torch.randperm(len(lens) * columns, generator=generator)
    tables = order.view(len(lens), columns)
    slots = [
        int(tables[i, p // BLOCK]) * BLOCK + p % BLOCK
        for i in range(len(lens))
        for p in range(before[i], lens[i])
    ]
    shape = (len(order), kv_heads, BLOCK, head_dim)
    on = {"dtype": kv_dtype or dtype, "device": device}
    caches = [torch.randn(shape, generator=generator).to(**on) for _ in range(2)]
    widths = [heads * head_dim, kv_heads * head_dim, kv_heads * head_dim]
    qkv = torch.randn(int(starts[-1]), sum(widths), generator=generator)
    q, k, v = qkv.to(device=device, dtype=dtype).split(widths, dim=1)
    there = [torch.tensor(x, device=device) for x in (slots, tables.int().tolist(), lens, starts)]
    inputs = AttentionInputs(there[0], there[1].int(), there[2], there[3], lens, starts)
    return Step(q, k, v, LayerCache(*caches), inputs)
