# SPDX-License-Identifier: Apache-2.0
"""A fixed number of KV blocks: who is free, who is held and how often.

Owns reference counts and the free list. Must not know requests or what a block contains.

Blocks are counted because a prefix cache will let requests share them; until then every count is
0 or 1. The free list is a stack, so the block freed last, still warm, is used first, and memory
behind blocks that were never needed is never touched.
"""

from __future__ import annotations

from collections.abc import Iterable


class BlockPool:
    """`num_blocks` blocks numbered from 0."""

    def __init__(self, num_blocks: int) -> None:
        if num_blocks < 1:
            raise ValueError(f"a block pool needs at least 1 block, got {num_blocks}")
        self.num_blocks = num_blocks
        self._free = list(range(num_blocks - 1, -1, -1))
        self._refs = [0] * num_blocks

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def usage(self) -> float:
        """Share of the blocks held, 0 to 1."""
        return 1.0 - len(self._free) / self.num_blocks

    def take(self, count: int) -> list[int]:
        """`count` free blocks, held once each. The caller made sure that there are so many."""
        assert 0 <= count <= len(self._free), f"{count} blocks asked, {len(self._free)} free"
        if count == 0:
            return []
        blocks = self._free[-count:][::-1]
        del self._free[-count:]
        for block in blocks:
            self._refs[block] = 1
        return blocks

    def release(self, blocks: Iterable[int]) -> None:
        """Drop one hold of each block; a block nobody holds is free again."""
        for block in blocks:
            self._refs[block] -= 1
            assert self._refs[block] >= 0, f"block {block} was released but not held"
            if self._refs[block] == 0:
                self._free.append(block)

    def check_integrity(self, tables: Iterable[Iterable[int]]) -> None:
        """Assert that `tables` (every holder's blocks) and the free list account for each block."""
        held = [0] * self.num_blocks
        for table in tables:
            for block in table:
                held[block] += 1
        assert held == self._refs, "reference counts differ from the tables"
        assert len(set(self._free)) == len(self._free), "a block is free twice"
        free = set(self._free)
        for block, count in enumerate(held):
            assert (count == 0) == (block in free), f"block {block}: {count} holds, free list wrong"
