# SPDX-License-Identifier: Apache-2.0
"""Causal attention over a paged KV cache: write this step's keys and values, then attend.

Owns the description of a step that all layers share. Must not know who the sequences belong to.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vllm.kernels import ops


@dataclass(slots=True)
class AttentionInputs:
    """One step of T tokens of B sequences, the tokens of a sequence next to each other.

    `slot_mapping` i64 [T]: block * block_size + offset that token t's key and value go to.
    `block_tables` i32 [B, blocks], `seq_lens` i32 [B]: context including this step's tokens.
    `query_start_loc` i32 [B + 1]: where each sequence's tokens begin.
    """

    slot_mapping: Tensor
    block_tables: Tensor
    seq_lens: Tensor
    query_start_loc: Tensor


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
        ops.paged_attention(
            out,
            q,
            cache.keys,
            cache.values,
            step.block_tables,
            step.seq_lens,
            step.query_start_loc,
            self.scale,
            self.window,
            self.soft_cap,
        )
