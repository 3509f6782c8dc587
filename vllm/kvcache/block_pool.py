# SPDX-License-Identifier: Apache-2.0
"""A fixed number of KV blocks: who is free, who is held and how often.

Owns reference counts and the order in which free blocks are used again. Must not know requests or
what a block contains, only whether the prefix index leads to it.

A block that nobody holds is either *blank* or *kept*: the index still finds it, and it may be held
again. Blank blocks are a stack, so the one freed last, still warm, is used first, and memory behind
blocks that were never needed is never touched. When no blank one is left, the kept block that was
released longest ago is evicted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from vllm.kvcache.prefix import PrefixIndex


class BlockPool:
    """`num_blocks` blocks numbered from 0."""

    def __init__(self, num_blocks: int, index: PrefixIndex | None = None) -> None:
        if num_blocks < 1:
            raise ValueError(f"a block pool needs at least 1 block, got {num_blocks}")
        self.num_blocks = num_blocks
        self._index = PrefixIndex() if index is None else index
        self._blank = list(range(num_blocks - 1, -1, -1))
        self._kept: OrderedDict[int, None] = OrderedDict()  # released longest ago first
        self._refs = [0] * num_blocks

    @property
    def num_free(self) -> int:
        """Blocks that nobody holds, kept ones included."""
        return len(self._blank) + len(self._kept)

    @property
    def usage(self) -> float:
        """Share of the blocks held, 0 to 1."""
        return 1.0 - self.num_free / self.num_blocks

    def num_kept(self, blocks: Iterable[int]) -> int:
        """How many of `blocks` are free, so that holding them leaves fewer to take."""
        return sum(1 for block in blocks if self._refs[block] == 0)

    def take(self, count: int) -> list[int]:
        """`count` free blocks, held once each. The caller made sure that there are so many."""
        assert 0 <= count <= self.num_free, f"{count} blocks asked, {self.num_free} free"
        blocks = [self._blank.pop() for _ in range(min(count, len(self._blank)))]
        while len(blocks) < count:
            block, _ = self._kept.popitem(last=False)
            self._index.drop(block)
            blocks.append(block)
        for block in blocks:
            self._refs[block] = 1
        return blocks

    def hold(self, blocks: Iterable[int]) -> None:
        """Hold blocks that the index found once more."""
        for block in blocks:
            if self._refs[block] == 0:
                del self._kept[block]
            self._refs[block] += 1

    def release(self, blocks: Iterable[int]) -> None:
        """Drop one hold of each block; a block nobody holds is free again."""
        for block in blocks:
            self._refs[block] -= 1
            assert self._refs[block] >= 0, f"block {block} was released but not held"
            if self._refs[block] > 0:
                continue
            if block in self._index:
                self._kept[block] = None
            else:
                self._blank.append(block)

    def forget(self, blocks: Iterable[int]) -> None:
        """What is in `blocks` must not be found any more, whoever holds them."""
        for block in blocks:
            self._index.drop(block)
            if block in self._kept:
                del self._kept[block]
                self._blank.append(block)

    def forget_all(self) -> None:
        """Empty the index."""
        self.forget(range(self.num_blocks))

    def check_integrity(self, tables: Iterable[Iterable[int]]) -> None:
        """Assert that holders' tables, blank and kept blocks account for each block."""
        held = [0] * self.num_blocks
        for table in tables:
            for block in table:
                held[block] += 1
        assert held == self._refs, "reference counts differ from the tables"
        blank = set(self._blank)
        assert len(blank) == len(self._blank), "a block is free twice"
        assert blank.isdisjoint(self._kept), "a block is blank and kept"
        for block, count in enumerate(held):
            free = block in blank or block in self._kept
            assert (count == 0) == free, f"block {block}: {count} holds, free list wrong"
        assert not any(block in self._index for block in blank), "a blank block is in the index"
        assert all(block in self._index for block in self._kept), "a kept block is not in the index"
        self._index.check_integrity()
