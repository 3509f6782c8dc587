# SPDX-License-Identifier: Apache-2.0
"""What is in the full blocks: hash chains over tokens, and the index from a hash to its block.

Owns both directions of the index. Must not know who holds a block, nor requests.

The hash of a block covers its tokens and the hash of the block before it, so that equal hashes mean
equal tokens from the first one on, under the same extra keys (a cache salt; later adapters and
media). SHA-256, because a collision would show one client's text to another.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256


def root(*keys: str) -> bytes:
    """Where a chain begins: chains under different extra keys have no block in common."""
    digest = sha256()
    for key in keys:
        data = key.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.digest()


def extend(chain: list[bytes], start: bytes, blocks: Iterable[Sequence[int]]) -> None:
    """Append the hash of each block of tokens; `start` is the root, for an empty chain."""
    parent = chain[-1] if chain else start
    for tokens in blocks:
        parent = sha256(parent + array("q", tokens).tobytes()).digest()
        chain.append(parent)


@dataclass(slots=True)
class LookUps:
    """Look-ups since the last report, counted in requests and tokens; `again` after preemption."""

    reset: bool = False
    requests: int = 0
    queries: int = 0
    hits: int = 0
    requests_again: int = 0
    queries_again: int = 0
    hits_again: int = 0

    def count(self, queries: int, hits: int, again: bool) -> None:
        if again:
            self.requests_again += 1
            self.queries_again += queries
            self.hits_again += hits
        else:
            self.requests += 1
            self.queries += queries
            self.hits += hits


class PrefixIndex:
    """Hash to block and back: at most one block per hash, and one hash per block."""

    def __init__(self) -> None:
        self._block_of: dict[bytes, int] = {}
        self._hash_of: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._hash_of)

    def __contains__(self, block: int) -> bool:
        return block in self._hash_of

    def find(self, chain: Iterable[bytes]) -> list[int]:
        """The blocks of the longest known beginning of a chain."""
        found = []
        for key in chain:
            block = self._block_of.get(key)
            if block is None:
                break
            found.append(block)
        return found

    def find_end(self, chain: Sequence[bytes], num_dead: Callable[[int], int]) -> list[int]:
        """The longest beginning of a chain of which everything is known that is looked at: all
        blocks but the first `num_dead(count)` of `count`. Their places hold 0.
        """
        blocks: list[int] = []  # from behind
        end = len(chain)
        for position in range(len(chain) - 1, -1, -1):
            block = self._block_of.get(chain[position])
            if block is None:
                blocks, end = [], position
                continue
            blocks.append(block)
            if position <= num_dead(end):
                break
        return [0] * (end - len(blocks)) + blocks[::-1]

    def put(self, key: bytes, block: int) -> None:
        """`block` holds what `key` says; nothing happens where another block already does."""
        assert block not in self._hash_of, f"block {block} is in the index already"
        if key not in self._block_of:
            self._block_of[key] = block
            self._hash_of[block] = key

    def drop(self, block: int) -> None:
        """Nobody finds `block` any more."""
        key = self._hash_of.pop(block, None)
        if key is not None:
            del self._block_of[key]

    def check_integrity(self) -> None:
        """Assert that both directions say the same."""
        assert len(self._block_of) == len(self._hash_of), "the index has entries without a block"
        for block, key in self._hash_of.items():
            assert self._block_of.get(key) == block, f"block {block}: its hash leads elsewhere"
