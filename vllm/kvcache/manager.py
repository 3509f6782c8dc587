# SPDX-License-Identifier: Apache-2.0
"""Block tables: which blocks hold the keys and values of which request.

Owns the tables, the arithmetic from tokens to blocks, and what is shared: a table may begin with
full blocks that are already computed, and full blocks that are computed are offered to others. A
block that is still written to is in one table only. Must not know scheduling policy.

Where no layer of a model looks further back than a window, a table lets go of its first blocks as
they fall out of it. Their places stay, so that positions lead to blocks as before; what stands
there means nothing and is never read.

    positions  0 ..... | dead .. | window .... computed | ...
    blocks     gone    | gone    | held                 | held
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vllm.kvcache.block_pool import BlockPool
from vllm.kvcache.prefix import LookUps, PrefixIndex

TILE = 16
"""The CPU's kernels read so many positions at a time, from a multiple of it on; those of GPUs read
none outside of the window."""


def blocks_in_window(window: int, step: int, block_size: int) -> int:
    """Blocks that `step` tokens and what they look back at touch, wherever they begin."""
    return -(-(window - 1 + TILE - 1 + step) // block_size) + 1


@dataclass(slots=True)
class _Table:
    """`num_shared` blocks were offered to others (or found), the first `num_gone` are not held any
    more; a `sealed` table offers nothing.
    """

    blocks: list[int] = field(default_factory=list)
    num_shared: int = 0
    num_gone: int = 0
    sealed: bool = False

    @property
    def held(self) -> list[int]:
        return self.blocks[self.num_gone :]


class KVCacheManager:
    """Tables over a pool of `num_blocks` blocks of `block_size` tokens.

    `window`: how many tokens back the model looks, the present one included; 0: to the first.
    """

    def __init__(
        self, num_blocks: int, block_size: int, caching: bool = True, window: int = 0
    ) -> None:
        self.block_size = block_size
        self.window = window
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

    def _num_dead(self, num_computed: int) -> int:
        """Blocks that no token behind the first `num_computed` ones looks at."""
        if self.window == 0:
            return 0
        first = max(0, num_computed - self.window + 1)
        return first // TILE * TILE // self.block_size

    def table(self, request_id: str) -> list[int]:
        """The blocks of a request in token order (empty when it holds none); see `num_gone`."""
        table = self._tables.get(request_id)
        return [] if table is None else table.blocks

    def num_gone(self, request_id: str) -> int:
        """How many blocks of a request's table are not held any more."""
        table = self._tables.get(request_id)
        return 0 if table is None else table.num_gone

    def num_shared(self, request_id: str) -> int:
        """How many blocks of a request's table others may find."""
        table = self._tables.get(request_id)
        return 0 if table is None else table.num_shared

    def find(self, chain: Sequence[bytes], num_tokens: int) -> list[int]:
        """Computed blocks with which a request of `num_tokens` tokens can begin.

        Never all of its tokens: the last one is computed again, since its logits are wanted. Of
        blocks that a window leaves behind only the number counts.
        """
        chain = chain[: (num_tokens - 1) // self.block_size]
        if self.window == 0:
            return self.index.find(chain)
        return self.index.find_end(chain, lambda count: self._num_dead(count * self.block_size))

    def start(
        self, request_id: str, num_tokens: int, found: list[int], spare: int = 0, step: int = 0
    ) -> list[int] | None:
        """A table for `num_tokens` tokens that begins with the blocks `found`; with a window, for
        as many of them as it holds at a time when `step` are computed at a time.

        Returns the blocks that follow them, or None, with nothing changed, when the pool has too
        few left or fewer than `spare` would remain.
        """
        assert request_id not in self._tables, f"{request_id} holds blocks already"
        num_gone = self._num_dead(len(found) * self.block_size)
        used = found[num_gone:]
        missing = self.blocks_for(num_tokens) - len(found)
        if self.window > 0:
            most = blocks_in_window(self.window, step, self.block_size)
            missing = min(missing, num_gone + most - len(found))
        if missing + spare + self.pool.num_kept(used) > self.pool.num_free:
            return None
        self.pool.hold(used)
        blocks = self.pool.take(missing)
        sealed = not self.caching
        self._tables[request_id] = _Table(found + blocks, len(found), num_gone, sealed)
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

    def leave_behind(self, request_id: str, num_computed: int) -> None:
        """Let go of the blocks that fell out of the window. They were shared before, where they
        may be, and are found until they are needed for something else.
        """
        table = self._tables[request_id]
        dead = self._num_dead(num_computed)
        if dead > table.num_gone:
            self.pool.release(reversed(table.blocks[table.num_gone : dead]))
            table.num_gone = dead

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
            self.pool.release(reversed(table.held))

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

    def take_look_ups(self) -> LookUps | None:
        """The counts since the last call, if there are any."""
        counts = self.look_ups
        if not (counts.requests or counts.requests_again or counts.reset):
            return None
        self.look_ups = LookUps()
        return counts

    def check_integrity(self) -> None:
        """Assert that every block is accounted for, and that only full blocks are shared."""
        self.pool.check_integrity(table.held for table in self._tables.values())
        owners: dict[int, int] = {}
        for table in self._tables.values():
            for block in table.blocks[max(table.num_shared, table.num_gone) :]:
                owners[block] = owners.get(block, 0) + 1
        for table in self._tables.values():
            assert owners.keys().isdisjoint(table.blocks[table.num_gone : table.num_shared]), (
                "a block that is still written to is shared"
            )
        assert all(count == 1 for count in owners.values()), "a block is written by two requests"
