# SPDX-License-Identifier: Apache-2.0
"""The memory behind the KV blocks: how much, and the tensors of every layer.

Owns sizes and allocation. Must not know which request holds a block.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from vllm.distributed.group import ALONE, Group
from vllm.errors import EngineStartError
from vllm.kvcache.manager import blocks_in_window
from vllm.layers.attention import LayerCache
from vllm.models.config import ModelConfig
from vllm.worker import resources

# On the CPU activations are small, so the cache may take a good part of what weights leave. The cap
# keeps a default start from promising a whole large machine to one engine.
MEMORY_SHARE = 0.5
MEMORY_CAP = 4 << 30
# On a GPU: of what a step takes besides. Keys and values that `FlashAttention` gathers are the most
# of it, then graphs of some MB each, the libraries' workspaces and logits that are edited.
STEP_MEMORY = 1 << 30


@dataclass(frozen=True)
class KVLayout:
    """`num_blocks` blocks of `block_size` tokens, each token `token_bytes` over all layers."""

    num_blocks: int
    block_size: int
    token_bytes: int

    @property
    def num_tokens(self) -> int:
        return self.num_blocks * self.block_size


def plan_cache(
    config: ModelConfig,
    group: Group = ALONE,
    *,
    block_size: int,
    dtype: torch.dtype,
    memory: int,
    max_model_len: int | None,
    max_num_seqs: int,
    step: int,
) -> tuple[KVLayout, int]:
    """The cache's size and the resulting max_model_len.

    `memory` is in bytes, the operator's figure or one of the two below. Nothing more is taken than
    `max_num_seqs` requests of full length need, and a request of full length must fit; it holds no
    more than the model's window before the at most `step` tokens of a step, where it has one. Over
    a group, `config` and `memory` are each rank's and all take as many blocks as the poorest.
    """
    token_bytes = config.num_layers * math.prod(config.cache_shape) * dtype.itemsize
    longest = _longest(config, max_model_len)
    most = blocks_in_window(config.reach, step, block_size) if config.reach else None

    def held(num_tokens: int) -> int:
        blocks = -(-num_tokens // block_size)
        return blocks if most is None else min(blocks, most)

    useful = max_num_seqs * held(longest)
    num_blocks = group.least(min(useful, memory // (token_bytes * block_size)))
    layout = KVLayout(num_blocks, block_size, token_bytes)
    if num_blocks < held(max_model_len or 1):
        wanted = max_model_len or block_size
        raise EngineStartError(
            f"a KV cache of {memory} bytes holds {max(0, layout.num_tokens)} tokens of "
            f"{token_bytes} bytes, one request of {wanted} tokens does not fit; raise the cache "
            "memory or lower --max-model-len"
        )
    if most is not None and num_blocks >= most:
        return layout, longest
    return layout, min(longest, layout.num_tokens)


def _longest(config: ModelConfig, max_model_len: int | None) -> int:
    """Tokens of a request at most, where memory is no limit."""
    longest = max_model_len or config.max_position
    if longest > config.longest_position:
        raise EngineStartError(
            f"max_model_len is {longest}, but the model has {config.longest_position} positions; "
            "lower --max-model-len"
        )
    return longest


def memory_on_cpu(ranks: int, weights: int) -> int:
    """Bytes for the cache of a rank, at least 0. All ranks share the host's memory, and `weights`
    bytes of it are still to be laid out by all of them together.
    """
    left = max(0, resources.available_memory() - weights)
    return min(int(left // ranks * MEMORY_SHARE), MEMORY_CAP)


def memory_on_gpu(device: torch.device, share: float) -> int:
    """Bytes for the cache of an engine whose weights and activations are there already: what is
    left of this share of the device's memory, at least 0.
    """
    torch.cuda.empty_cache()  # what loading has left over
    free, total = torch.cuda.mem_get_info(device)
    return max(0, int(total * share) - (total - free) - STEP_MEMORY)


def allocate(
    config: ModelConfig, layout: KVLayout, dtype: torch.dtype, device: torch.device
) -> list[LayerCache]:
    """Caches of all layers. On the CPU they are uninitialized: memory is taken from the system as
    blocks are used. Elsewhere they are zero: rows that fill a decode step up read a token of block
    0, and should not look broken.
    """
    tensors, heads, width = config.cache_shape
    shape = (config.num_layers, tensors, layout.num_blocks, heads, layout.block_size, width)
    try:
        make = torch.empty if device.type == "cpu" else torch.zeros
        whole = make(shape, dtype=dtype, device=device)
    except RuntimeError as error:
        size = layout.num_tokens * layout.token_bytes
        raise EngineStartError(f"no memory for a KV cache of {size} bytes: {error}") from None
    return [LayerCache(layer[0], layer[-1]) for layer in whole]
