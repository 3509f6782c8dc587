# SPDX-License-Identifier: Apache-2.0
"""Block tables: which blocks hold the keys and values of which request.

Owns the tables and the arithmetic from tokens to blocks. Must not know scheduling policy.
A prefix index will sit here: `grow` then starts a table with blocks that are already computed.
"""

from __future__ import annotations

from vllm.kvcache.block_pool import BlockPool


class KVCacheManager:
    """Tables over a pool of `num_blocks` blocks of `block_size` tokens."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.block_size = block_size
        self.pool = BlockPool(num_blocks)
        self._tables: dict[str, list[int]] = {}

    @property
    def usage(self) -> float:
        return self.pool.usage

    @property
    def num_tokens(self) -> int:
        """Tokens that fit into the whole pool."""
        return self.pool.num_blocks * self.block_size

    def blocks_for(self, num_tokens: int) -> int:
        """Blocks that `num_tokens` tokens take."""
        return -(-num_tokens // self.block_size)

    def table(self, request_id: str) -> list[int]:
        """The blocks of a request in token order (empty when it holds none)."""
        return self._tables.get(request_id, [])

    def grow(self, request_id: str, num_tokens: int, spare: int = 0) -> list[int] | None:
        """Make room for `num_tokens` tokens of a request in all.

        Returns the blocks added (often none), or None, with nothing changed, when the pool has too
        few left or fewer than `spare` would remain.
        """
        table = self._tables.get(request_id)
        held = len(table) if table else 0
        missing = self.blocks_for(num_tokens) - held
        if missing <= 0:
            return []
        if missing + spare > self.pool.num_free:
            return None
        blocks = self.pool.take(missing)
        if table is None:
            self._tables[request_id] = list(blocks)
        else:
            table += blocks
        return blocks

    def free(self, request_id: str) -> None:
        """Give back all blocks of a request (nothing happens when it holds none)."""
        self.pool.release(reversed(self._tables.pop(request_id, [])))

    def check_integrity(self) -> None:
        self.pool.check_integrity(self._tables.values())
