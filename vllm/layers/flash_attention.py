# SPDX-License-Identifier: Apache-2.0
"""Attention of prompts by torch's flash kernel, which uses a GPU's tensor cores.

Owns the choice of a layer's attention, and the way of keys out of the cache to that kernel. Must
not know where a step comes from. Decodes stay with the kernel that reads the cache where it lies.
"""

from __future__ import annotations

from torch import Tensor

from vllm.kernels import flash, ops
from vllm.layers.attention import AttentionInputs, LayerCache, PagedAttention
from vllm.layers.linear import Target

MOST_GATHERED = 512 << 20  # bytes of a layer's keys and values; what has more stays where it is


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
        if step.is_decode or self._needs_too_much(step, cache):
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
        starts = prompts.query_starts, prompts.key_starts
        longest = prompts.longest_query, prompts.longest_context
        out[first:] = flash.attend_causally(q, k, v, *starts, *longest, self.scale).flatten(1)

    def _needs_too_much(self, step: AttentionInputs, cache: LayerCache) -> bool:
        _, kv_heads, block_size, head_dim = cache.keys.shape
        prompts = step.prompts(block_size)
        size = 2 * prompts.gathered * kv_heads * head_dim * cache.keys.itemsize
        return size > MOST_GATHERED


def make_attention(
    target: Target, head_dim: int, scale: float, window: int, soft_cap: float
) -> PagedAttention:
    """The attention of one layer on this target."""
    plain = window == 0 and soft_cap == 0
    fast = plain and flash.is_available(target.device, target.dtype, head_dim)
    return (FlashAttention if fast else PagedAttention)(scale, window, soft_cap)
