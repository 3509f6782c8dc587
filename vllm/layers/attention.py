# SPDX-License-Identifier: Apache-2.0
"""Causal attention over a paged KV cache: write this step's keys and values, then attend.

Owns the description of a step that all layers share. Must not know who the sequences belong to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from vllm.kernels import ops
from vllm.layers.prompts import Prompts, plan_prompts


@dataclass(slots=True)
class AttentionInputs:
    """One step of T tokens of B sequences, each with one token or more, those of a sequence next to
    each other.

    `slot_mapping` i64 [T]: block * block_size + offset that token t's key and value go to.
    `block_tables` i32 [B, blocks], `seq_lens` i32 [B]: context including this step's tokens.
    `query_start_loc` i32 [B + 1]: where each sequence's tokens begin. `host_lens` and `host_starts`
    are the last two on the host.
    """

    slot_mapping: Tensor
    block_tables: Tensor
    seq_lens: Tensor
    query_start_loc: Tensor
    host_lens: np.ndarray
    host_starts: np.ndarray
    _prompts: Prompts | None = None

    @property
    def is_decode(self) -> bool:
        """Whether every sequence has one token."""
        return self.slot_mapping.shape[0] == self.seq_lens.shape[0]

    def prompts(self, block_size: int) -> Prompts:
        """What there is besides decodes, worked out once for all layers."""
        if self._prompts is None:
            host = (self.host_starts, self.host_lens)
            device = (self.query_start_loc, self.seq_lens, self.block_tables)
            self._prompts = plan_prompts(*host, *device, block_size)
        return self._prompts


@dataclass(frozen=True)
class LayerCache:
    """Keys and values of one layer, each [num_blocks, kv_heads, block_size, head_dim]; one tensor
    where they are the same.
    """

    keys: Tensor
    values: Tensor


class PagedAttention:
    """softmax(cap(q k^T * scale)) v for grouped query heads; a token sees the last `window` tokens,
    itself included (0: all), and cap(s) = soft_cap * tanh(s / soft_cap) (0: s).
    """

    def __init__(self, scale: float, window: int = 0, soft_cap: float = 0.0) -> None:
        self.scale, self.window, self.soft_cap = scale, window, soft_cap

    def __call__(
        self,
        out: Tensor,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        cache: LayerCache,
        step: AttentionInputs,
    ) -> None:
        """q and out [T, heads * head_dim], k and v [T, kv_heads * head_dim]."""
        ops.kv_write(k, v, cache.keys, cache.values, step.slot_mapping)
        self.attend(out, q, cache, step.block_tables, step.seq_lens, step.query_start_loc)

    def attend(
        self,
        out: Tensor,
        q: Tensor,
        cache: LayerCache,
        tables: Tensor,
        lens: Tensor,
        starts: Tensor,
    ) -> None:
        """To keys and values that are in the cache; `tables`, `lens` and `starts` as in a step."""
        keys, values = cache.keys, cache.values
        ops.paged_attention(
            out, q, keys, values, tables, lens, starts, self.scale, self.window, self.soft_cap
        )
