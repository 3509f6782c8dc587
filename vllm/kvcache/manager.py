# SPDX-License-Identifier: Apache-2.0
"""Block tables: which blocks hold the keys and values of which request.

Owns the tables, the arithmetic from tokens to blocks, and what is shared: a table may begin with
full blocks that are already computed, and full blocks that are computed are offered to others. A
block that is still written to is in one table only. Must not know scheduling policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vllm.kvcache.block_pool import BlockPool
from vllm.kvcache.prefix import LookUps, PrefixIndex


@dataclass(slots=True)
class _Table:
    """`num_shared` blocks were offered to others (or found); a `sealed` table offers nothing."""

    blocks: list[int] = field(default_factory=list)
    num_shared: int = 0
    sealed: bool = False


class KVCacheManager:
    """Tables over a pool of `num_blocks` blocks of `block_size` tokens."""

    def __init__(self, num_blocks: int, block_size: int, caching: bool = True) -> None:
        self.block_size = block_size
        self.caching = caching
        self.look_ups = LookUps()
        self.index = PrefixIndex()
        self.pool = BlockPool(num_blocks, self.index)
        self._tables: dict[str, _Table] = {}

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
        table = self._tables.get(request_id)
        return [] if table is None else table.blocks

    def num_shared(self, request_id: str) -> int:
        """How many blocks of a request's table others may find."""
        table = self._tables.get(request_id)
        return 0 if table is None else table.num_shared

    def find(self, chain: Sequence[bytes], num_tokens: int) -> list[int]:
        """Computed blocks with which a request of `num_tokens` tokens can begin.

        Never all of its tokens: the last one is computed again, since its logits are wanted.
        """
        return self.index.find(chain[: (num_tokens - 1) // self.block_size])

    def start(
        self, request_id: str, num_tokens: int, found: list[int], spare: int = 0
    ) -> list[int] | None:
        """A table for `num_tokens` tokens that begins with the blocks `found`.

        Returns the blocks that follow them, or None, with nothing changed, when the pool has too
        few left or fewer than `spare` would remain.
        """
        assert request_id not in self._tables, f"{request_id} holds blocks already"
        missing = self.blocks_for(num_tokens) - len(found)
        if missing + spare + self.pool.num_kept(found) > self.pool.num_free:
            return None
        self.pool.hold(found)
        blocks = self.pool.take(missing)
        self._tables[request_id] = _Table(found + blocks, len(found), sealed=not self.caching)
        return blocks

    def grow(self, request_id: str, num_tokens: int) -> list[int] | None:
        """Make room for `num_tokens` tokens in all of a request that was started.

        Returns the blocks added (often none), or None, with nothing changed, when there are too
        few.
        """
        table = self._tables[request_id]
        missing = self.blocks_for(num_tokens) - len(table.blocks)
        if missing <= 0:
            return []
        if missing > self.pool.num_free:
            return None
        blocks = self.pool.take(missing)
        table.blocks += blocks
        return blocks

    def share(self, request_id: str, chain: Sequence[bytes]) -> None:
        """The blocks that `chain` covers are full and computed: others may find them."""
        table = self._tables[request_id]
        if table.sealed:
            return
        for position in range(table.num_shared, len(chain)):
            self.index.put(chain[position], table.blocks[position])
        table.num_shared = max(table.num_shared, len(chain))

    def free(self, request_id: str) -> None:
        """Give back all blocks of a request (nothing happens when it holds none).

        From behind, so that the end of a prompt is evicted before its beginning.
        """
        table = self._tables.pop(request_id, None)
        if table is not None:
            self.pool.release(reversed(table.blocks))

    def distrust(self, request_id: str) -> None:
        """What a request computed is wrong: nobody may find it, now or later."""
        table = self._tables.get(request_id)
        if table is not None:
            table.sealed = True
            self.pool.forget(table.blocks)

    def reset(self) -> None:
        """Nothing computed until now is found from now on; requests keep the blocks they hold."""
        self.pool.forget_all()
        for table in self._tables.values():
            table.sealed = True
        self.look_ups.reset = True

    def take_look_ups(self) -> LookUps:
        """The counts since the last call."""
        counts, self.look_ups = self.look_ups, LookUps()
        return counts

    def check_integrity(self) -> None:
        """Assert that every block is accounted for, and that only full blocks are shared."""
        self.pool.check_integrity(table.blocks for table in self._tables.values())
        owners: dict[int, int] = {}
        for table in self._tables.values():
            for block in table.blocks[table.num_shared :]:
                owners[block] = owners.get(block, 0) + 1
        for table in self._tables.values():
            assert owners.keys().isdisjoint(table.blocks[: table.num_shared]), (
                "a block that is still written to is shared"
            )
        assert all(count == 1 for count in owners.values()), "a block is written by two requests"
