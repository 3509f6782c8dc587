# SPDX-License-Identifier: Apache-2.0
"""Blocks are conserved: each is free or held, never both, under any order of calls."""

from __future__ import annotations

import random

import pytest

from vllm.kvcache.block_pool import BlockPool
from vllm.kvcache.manager import KVCacheManager, blocks_in_window
from vllm.kvcache.prefix import LookUps, PrefixIndex, extend, root


def chain(tokens: list[int], size: int, *keys: str) -> list[bytes]:
    hashes: list[bytes] = []
    full = range(0, len(tokens) // size * size, size)
    extend(hashes, root(*keys), (tokens[at : at + size] for at in full))
    return hashes


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
    assert manager.start("a", 17, []) == [0, 1]
    assert manager.grow("a", 32) == []
    assert manager.grow("a", 33) == [2]
    assert manager.table("a") == [0, 1, 2]


def test_start_is_all_or_nothing() -> None:
    manager = KVCacheManager(num_blocks=3, block_size=16)
    assert manager.start("a", 49, []) is None
    assert manager.start("a", 33, [], spare=1) is None
    assert manager.table("a") == []
    manager.check_integrity()
    assert manager.start("a", 48, []) is not None
    assert manager.usage == 1.0
    assert manager.grow("a", 49) is None


# ------------------------------------------------------------------------------------------ hashes


def test_a_hash_covers_everything_before_it() -> None:
    one, other = chain([1, 2, 3, 4, 5, 6], 2), chain([9, 2, 3, 4, 5, 6], 2)
    assert len(one) == 3
    assert set(one).isdisjoint(other)
    assert chain([1, 2, 3, 4, 7], 2) == one[:2]


def test_extra_keys_keep_chains_apart() -> None:
    keys: list[tuple[str, ...]] = [(), ("",), ("a",), ("b",), ("a", "b"), ("ab",), ("a", "", "b")]
    roots = [chain([1, 2], 2, *key)[0] for key in keys]
    assert len(set(roots)) == len(keys)


# ------------------------------------------------------------------------------------------- cache


def finished(manager: KVCacheManager, name: str, tokens: list[int]) -> None:
    """A request that computed all of its tokens and is gone."""
    assert manager.start(name, len(tokens), []) is not None
    manager.share(name, chain(tokens, manager.block_size))
    manager.free(name)


def test_blocks_of_a_finished_request_are_found_but_for_the_last_token() -> None:
    manager = KVCacheManager(num_blocks=8, block_size=2)
    tokens = [1, 2, 3, 4, 5, 6]
    finished(manager, "a", tokens)
    assert manager.usage == 0.0
    hashes = chain(tokens, 2)
    assert manager.find(hashes, 6) == [0, 1]
    assert manager.find(hashes, 7) == [0, 1, 2]
    assert manager.find(chain([1, 2, 9, 9], 2), 5) == [0]
    assert manager.find(chain(tokens, 2, "salt"), 7) == []
    manager.check_integrity()


def test_the_end_of_what_was_released_first_is_evicted_first() -> None:
    manager = KVCacheManager(num_blocks=4, block_size=2)
    finished(manager, "old", [1, 2, 3, 4])
    finished(manager, "new", [5, 6, 7, 8])
    assert manager.start("c", 2, []) == [1]
    assert manager.find(chain([1, 2, 3, 4], 2), 5) == [0]
    assert manager.find(chain([5, 6, 7, 8], 2), 5) == [2, 3]
    manager.free("c")
    assert manager.start("d", 4, []) == [1, 0]
    manager.check_integrity()


def test_use_makes_a_block_young_again() -> None:
    manager = KVCacheManager(num_blocks=2, block_size=2)
    finished(manager, "a", [1, 2])
    finished(manager, "b", [3, 4])
    assert manager.start("again", 3, manager.find(chain([1, 2], 2), 3)) is not None
    manager.check_integrity()
    assert manager.find(chain([3, 4], 2), 3) == []  # it was the only free block
    manager.free("again")
    assert manager.find(chain([1, 2], 2), 3) == [0]


def test_found_blocks_that_are_free_count_as_taken() -> None:
    manager = KVCacheManager(num_blocks=3, block_size=2)
    finished(manager, "a", [1, 2, 3, 4])
    found = manager.find(chain([1, 2, 3, 4], 2), 5)
    assert manager.start("b", 7, found) is None
    assert manager.start("b", 5, found, spare=1) is None
    manager.check_integrity()
    assert manager.start("b", 6, found) == [2]


def test_what_two_computed_at_once_is_kept_once() -> None:
    manager = KVCacheManager(num_blocks=4, block_size=2)
    for name in "ab":
        manager.start(name, 3, [])
        manager.share(name, chain([1, 2], 2))
    manager.check_integrity()
    assert manager.find(chain([1, 2], 2), 3) == [0]
    manager.free("a")
    manager.free("b")
    manager.check_integrity()
    assert len(manager.index) == 1


def test_reset_forgets_what_was_and_what_is_being_computed() -> None:
    manager = KVCacheManager(num_blocks=8, block_size=2)
    finished(manager, "a", [1, 2])
    manager.start("b", 5, [])
    manager.share("b", chain([5, 6], 2))
    manager.reset()
    assert len(manager.index) == 0
    manager.share("b", chain([5, 6, 7, 8], 2))  # begun before the reset: not to be found after it
    assert len(manager.index) == 0
    manager.check_integrity()
    assert manager.take_look_ups() == LookUps(reset=True)
    assert manager.take_look_ups() is None


def test_distrusted_blocks_are_not_found() -> None:
    manager = KVCacheManager(num_blocks=8, block_size=2)
    finished(manager, "a", [1, 2, 3, 4])
    manager.start("bad", 7, manager.find(chain([1, 2], 2), 3))
    manager.share("bad", chain([1, 2, 9, 9, 8, 8], 2))
    manager.distrust("bad")
    manager.free("bad")
    manager.check_integrity()
    assert manager.find(chain([1, 2, 3, 4], 2), 5) == []
    assert manager.find(chain([1, 2, 9, 9], 2), 5) == []


def test_without_caching_nothing_is_kept() -> None:
    manager = KVCacheManager(num_blocks=8, block_size=2, caching=False)
    finished(manager, "a", [1, 2, 3, 4])
    assert manager.find(chain([1, 2, 3, 4], 2), 5) == []
    manager.check_integrity()


def test_integrity_check_sees_a_shared_block_that_is_written_to() -> None:
    manager = KVCacheManager(num_blocks=4, block_size=2)
    manager.start("a", 3, [])
    manager.pool.hold(manager.table("a"))
    manager._tables["b"] = type(manager._tables["a"])(list(manager.table("a")))
    with pytest.raises(AssertionError, match="written by two"):
        manager.check_integrity()


def test_integrity_check_sees_a_broken_index() -> None:
    index = PrefixIndex()
    index.put(b"k", 3)
    index.check_integrity()
    index._block_of[b"k"] = 4
    with pytest.raises(AssertionError, match="leads elsewhere"):
        index.check_integrity()


@pytest.mark.parametrize("seed", range(5))
def test_blocks_are_conserved(seed: int) -> None:
    rng = random.Random(seed)
    manager = KVCacheManager(num_blocks=23, block_size=4)
    tokens: dict[str, list[int]] = {}
    for _ in range(2000):
        name = str(rng.randrange(8))
        if rng.random() < 0.3:
            manager.free(name)
            tokens.pop(name, None)
        elif name in tokens:
            longer = tokens[name] + [0] * rng.randrange(12)
            manager.share(name, chain(tokens[name], 4))
            if manager.grow(name, len(longer)) is not None:
                tokens[name] = longer
        else:
            fresh = [rng.randrange(2) for _ in range(1 + rng.randrange(20))]
            found = manager.find(chain(fresh, 4), len(fresh))
            if manager.start(name, len(fresh), found, rng.randrange(3)) is not None:
                tokens[name] = fresh
        manager.check_integrity()
        for held, own in tokens.items():
            assert len(manager.table(held)) == manager.blocks_for(len(own))


# ------------------------------------------------------------------------------------------ window


def test_blocks_behind_a_window_are_given_back_and_still_found() -> None:
    manager = KVCacheManager(num_blocks=10, block_size=16, window=20)
    tokens = list(range(100))
    assert manager.start("a", 96, [], step=48) == [0, 1, 2, 3, 4, 5]
    manager.share("a", chain(tokens, 16))
    manager.leave_behind("a", 35)  # the next token looks back to 16
    assert manager.num_gone("a") == 1
    manager.leave_behind("a", 96)  # to 77, in the block from 64 on
    assert manager.num_gone("a") == 4
    assert manager.pool.num_free == 8
    manager.check_integrity()
    assert manager.find(chain(tokens, 16), 97) == [0, 0, 0, 0, 4, 5]
    assert manager.grow("a", 97) == [6]
    manager.free("a")
    manager.check_integrity()
    assert manager.usage == 0.0


def test_only_what_a_window_needs_must_be_found() -> None:
    index = PrefixIndex()
    keys = [bytes([number]) for number in range(8)]
    for number in (0, 1, 4, 5, 6):
        index.put(keys[number], 10 + number)
    two_back = lambda count: max(0, count - 2)  # noqa: E731
    assert index.find_end(keys, two_back) == [0, 0, 0, 0, 0, 15, 16]
    assert index.find_end(keys[:5], two_back) == [10, 11]
    assert index.find_end(keys, lambda count: max(0, count - 4)) == [10, 11]
    assert index.find_end(keys[2:4], two_back) == []


def test_a_long_prompt_takes_what_it_holds_at_a_time() -> None:
    manager = KVCacheManager(num_blocks=8, block_size=16, window=32)
    assert blocks_in_window(32, 16, 16) == 5
    assert manager.start("a", 1000, [], step=16) == [0, 1, 2, 3, 4]
    assert manager.start("b", 1000, [], step=16) is None
    assert KVCacheManager(num_blocks=8, block_size=16).start("a", 1000, [], step=16) is None
