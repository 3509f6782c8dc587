# SPDX-License-Identifier: Apache-2.0
"""One model over several ranks, each with some of the heads and a part of every inner dimension.

Megatron's way (Shoeybi et al. 2019, arXiv 1909.08053): projections into heads and inner dimensions
are cut by rows, so that a rank goes on with its own columns; those out of them are cut by columns,
and the ranks' results are summed. What a rank holds of a tensor follows from two tables of shapes,
the model's and the rank's. Owns that rule. Must not know torch, nor how ranks talk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from vllm.errors import UsageError
from vllm.models.config import ExpertsConfig, ModelConfig

FLAG = "--tensor-parallel-size"


def split_config(config: ModelConfig, size: int) -> ModelConfig:
    """What each of `size` ranks computes. KV heads fewer than ranks are held by several.

    Raises `UsageError` that names the numbers that do not divide and the sizes that do.
    """
    if size == 1:
        return config
    for what, count in _divided(config):
        if count % size:
            raise _refuse(config, size, f"{count} {what}")
    kv_heads = config.num_kv_heads
    if kv_heads % size and size % kv_heads:
        raise _refuse(config, size, f"{kv_heads} key-value heads")
    dense = config.intermediate_size
    return replace(
        config,
        num_heads=config.num_heads // size,
        num_kv_heads=max(1, kv_heads // size),
        intermediate_size=dense // size if _has_dense(config) else dense,
        experts=_split_experts(config.experts, size),
    )


def _split_experts(experts: ExpertsConfig | None, size: int) -> ExpertsConfig | None:
    if experts is None:
        return None
    return replace(experts, inner=experts.inner // size, shared=experts.shared // size)


def _has_dense(config: ModelConfig) -> bool:
    return config.experts is None or not all(config.experts.layers)


def _divided(config: ModelConfig) -> Iterator[tuple[str, int]]:
    yield "attention heads", config.num_heads
    if _has_dense(config):
        yield "columns inside the feed-forward layers", config.intermediate_size
    if config.experts is not None:
        yield "columns inside each expert", config.experts.inner
        yield "columns inside the shared experts", config.experts.shared


def _refuse(config: ModelConfig, size: int, what: str) -> UsageError:
    fitting = [n for n in range(1, config.num_heads + 1) if _fits(config, n)]
    sizes = ", ".join(map(str, fitting))
    return UsageError(f"{FLAG} {size} does not divide the model's {what}; it can be {sizes}")


def _fits(config: ModelConfig, size: int) -> bool:
    kv_heads = config.num_kv_heads
    whole = all(count % size == 0 for _, count in _divided(config))
    return whole and (kv_heads % size == 0 or size % kv_heads == 0)


def spans(wholes: Sequence[int], parts: Sequence[int], rank: int, size: int) -> list[range]:
    """Where `rank` finds its part of each piece, along one dimension of a tensor in which pieces
    of `wholes` elements lie one after the other.

    A piece that fewer parts make up than there are ranks is shared by neighbours: of 2 parts and 4
    ranks, ranks 0 and 1 have the first.
    """
    found, start = [], 0
    for whole, part in zip(wholes, parts, strict=True):
        first = start + rank * (whole // part) // size * part
        found.append(range(first, first + part))
        start += whole
    return found
