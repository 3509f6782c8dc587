# SPDX-License-Identifier: Apache-2.0
"""Attention of prompts by torch's flash kernel, which uses a GPU's tensor cores.

Owns the choice of a layer's attention, and the way of keys out of the cache to that kernel. Must
not know where a step comes from. Decodes stay with the kernel that reads the cache where it lies.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vllm.kernels import ops
from vllm.layers.attention import AttentionInputs, LayerCache, PagedAttention
from vllm.layers.linear import Target
from vllm.layers.prompts import Prompts

OLDEST = (8, 0)  # compute capability that the kernel is built for


class FlashAttention(PagedAttention):
    """`PagedAttention` without window and soft cap, for activations of 16 bits.

    In a step with prompts the sequences before the first prompt are decodes and go to our own
    kernel, the others to torch's.
    """

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
        if step.is_decode:
            super().__call__(out, q, k, v, cache=cache, step=step)
            return
        ops.kv_write(k, v, cache.keys, cache.values, step.slot_mapping)
        _, _, block_size, head_dim = cache.keys.shape
        prompts = step.prompts(block_size)
        if first := prompts.decodes:
            ends = step.seq_lens[:first], step.query_start_loc[: first + 1]
            self.attend(out[:first], q[:first], cache, step.block_tables[:first], *ends)
        q, k, v = (x[first:].unflatten(1, (-1, head_dim)) for x in (q, k, v))
        if prompts.places is not None:
            blocks, within = prompts.places
            k, v = (x[blocks, :, within].to(q.dtype) for x in (cache.keys, cache.values))
        out[first:] = attend_causally(q, k, v, prompts, self.scale).flatten(1)


def attend_causally(q: Tensor, k: Tensor, v: Tensor, prompts: Prompts, scale: float) -> Tensor:
    """[T, heads, head_dim]: q has that shape, k and v [keys, kv_heads, head_dim]. A sequence's
    queries are the last of its keys.
    """
    return torch.ops.aten._flash_attention_forward(
        q,
        k,
        v,
        prompts.query_starts,
        prompts.key_starts,
        prompts.longest_query,
        prompts.longest_context,
        0.0,  # dropout
        True,  # causal, aligned at the end of queries and keys
        False,
        scale=scale,
    )[0]


def make_attention(target: Target, scale: float, window: int, soft_cap: float) -> PagedAttention:
    """The attention of one layer on this target."""
    plain = window == 0 and soft_cap == 0
    fast = plain and _has_flash(target)
    return (FlashAttention if fast else PagedAttention)(scale, window, soft_cap)


def _has_flash(target: Target) -> bool:
    return (
        target.device.type == "cuda"
        and target.dtype in (torch.bfloat16, torch.float16)
        and torch.backends.cuda.is_flash_attention_available()
        and torch.cuda.get_device_capability(target.device) >= OLDEST
    )
