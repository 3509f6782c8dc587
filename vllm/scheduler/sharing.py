# SPDX-License-Identifier: Apache-2.0
"""Requests that wait for blocks which another one is about to compute.

Owns who computes which block next and who was set aside for it: `n` choices of one prompt, or many
requests under one system prompt, compute it once instead of all at the same time. Must not know
blocks, budgets or the queue; it sees hashes only.

A request is set aside only behind one that is served before it, so nobody waits for a later one,
and it comes back when the last block that both have in common is computed or its writer is gone.
"""

from __future__ import annotations

from collections.abc import Sequence

from vllm.engine.request import Request
from vllm.kvcache import prefix


def chain_of(request: Request, block_size: int, num_tokens: int) -> list[bytes]:
    """Hashes of the full blocks among the first `num_tokens` tokens of a request."""
    chain = request.block_hashes
    wanted = num_tokens // block_size
    if len(chain) < wanted:
        salt = () if request.cache_salt is None else (request.cache_salt,)
        starts = range(len(chain) * block_size, wanted * block_size, block_size)
        blocks = (request.tokens(start, start + block_size) for start in starts)
        prefix.extend(chain, prefix.root(*salt), blocks)
    return chain[:wanted]


class Sharing:
    """Who writes which block next, and who waits for it."""

    def __init__(self) -> None:
        self._writers: dict[bytes, Request] = {}
        self._waiting: dict[bytes, dict[str, Request]] = {}
        self._waits_for: dict[str, bytes] = {}

    def __len__(self) -> int:
        """Requests that were set aside."""
        return len(self._waits_for)

    def announce(self, request: Request, chain: Sequence[bytes]) -> None:
        """`request` begins to compute these blocks (but for those that someone else does)."""
        for key in chain:
            self._writers.setdefault(key, request)

    def set_aside(self, request: Request, chain: Sequence[bytes]) -> bool:
        """Whether `request`, which lacks the blocks of `chain`, should wait for their writer."""
        writer = self._writers.get(chain[0]) if chain else None
        if writer is None or writer.key > request.key:
            return False
        last = chain[0]
        for key in chain[1:]:
            if self._writers.get(key) is not writer:
                break
            last = key
        self._waiting.setdefault(last, {})[request.request_id] = request
        self._waits_for[request.request_id] = last
        return True

    def withdraw(self, request: Request, chain: Sequence[bytes]) -> list[Request]:
        """`request` has computed these blocks, or never will: who waited for them."""
        released: list[Request] = []
        for key in chain:
            if self._writers.get(key) is not request:
                continue
            del self._writers[key]
            for waiter in self._waiting.pop(key, {}).values():
                del self._waits_for[waiter.request_id]
                released.append(waiter)
        return released

    def discard(self, request: Request) -> None:
        """Forget a request that may have been set aside (an abort)."""
        key = self._waits_for.get(request.request_id)
        if key is None or self._waiting[key].get(request.request_id) is not request:
            return
        del self._waits_for[request.request_id], self._waiting[key][request.request_id]
        if not self._waiting[key]:
            del self._waiting[key]

    def clear(self) -> list[Request]:
        """Nobody's blocks will be found: forget who writes; everyone who waited."""
        released = [waiter for group in self._waiting.values() for waiter in group.values()]
        for table in (self._writers, self._waiting, self._waits_for):
            table.clear()
        return released

    def check_integrity(self) -> None:
        """Assert that whoever waits will be released: its block has a writer."""
        assert self._waiting.keys() <= self._writers.keys(), "a block is waited for, not written"
        waiters = {name: key for key, group in self._waiting.items() for name in group}
        assert waiters == self._waits_for, "a request waits that is not in its block's group"
