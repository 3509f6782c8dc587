# SPDX-License-Identifier: Apache-2.0
"""Blocks are conserved: each is free or held, never both, under any order of calls."""

from __future__ import annotations

import random

import pytest

from vllm.kvcache.block_pool import BlockPool
from vllm.kvcache.manager import KVCacheManager


def test_integrity_check_sees_a_lost_block() -> None:
    pool = BlockPool(4)
    held = pool.take(2)
    pool.check_integrity([held])
    with pytest.raises(AssertionError, match="differ from the tables"):
        pool.check_integrity([held[:1]])


def test_release_of_a_free_block_is_a_bug() -> None:
    pool = BlockPool(2)
    with pytest.raises(AssertionError, match="not held"):
        pool.release([1])


def test_grow_adds_only_what_is_missing() -> None:
    manager = KVCacheManager(num_blocks=4, block_size=16)
    assert manager.grow("a", 17) == [0, 1]
    assert manager.grow("a", 32) == []
    assert manager.grow("a", 33) == [2]
    assert manager.table("a") == [0, 1, 2]


def test_grow_is_all_or_nothing() -> None:
    manager = KVCacheManager(num_blocks=3, block_size=16)
    assert manager.grow("a", 49) is None
    assert manager.grow("a", 33, spare=1) is None
    assert manager.table("a") == []
    manager.check_integrity()
    assert manager.grow("a", 48) is not None
    assert manager.usage == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_blocks_are_conserved(seed: int) -> None:
    rng = random.Random(seed)
    manager = KVCacheManager(num_blocks=23, block_size=4)
    sizes: dict[str, int] = {}
    for _ in range(2000):
        name = str(rng.randrange(8))
        if rng.random() < 0.3:
            manager.free(name)
            sizes.pop(name, None)
        else:
            want = sizes.get(name, 0) + rng.randrange(12)
            if manager.grow(name, want, spare=rng.randrange(3)) is not None:
                sizes[name] = want
        manager.check_integrity()
        for held, size in sizes.items():
            assert len(manager.table(held)) == manager.blocks_for(size)
