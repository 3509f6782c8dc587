# SPDX-License-Identifier: Apache-2.0
"""The policy: who computes how many tokens in the next step.

Owns the waiting queue, the running list and every change of a request's counts. Must not know
tensors, sampling or sockets.

One step has a budget of tokens. Decodes come first (one token each), then prompts that were begun,
then new requests in queue order, the last of them perhaps cut into a chunk. A request is admitted
with the blocks of all its tokens, so only a decode ever asks for another block; when there is none,
the request that would be served last is preempted: its blocks go, its tokens stay, and its keys and
values are computed again when it is its turn, but for those that the prefix cache still holds.

Where the model looks back no further than a window, a long prompt is admitted with the blocks that
it holds at a time, and exchanges those it leaves behind for new ones.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass
from operator import attrgetter

from vllm.engine.request import Request, Status
from vllm.kvcache.manager import KVCacheManager
from vllm.scheduler.batch import Batch
from vllm.scheduler.queue import WaitingQueue
from vllm.scheduler.sharing import Sharing, chain_of

_KEY = attrgetter("key")


@dataclass(frozen=True)
class Limits:
    """Per step: at most `max_num_seqs` requests and `max_num_batched_tokens` tokens."""

    max_num_seqs: int
    max_num_batched_tokens: int

    def __post_init__(self) -> None:
        if self.max_num_seqs < 1:
            raise ValueError(f"max_num_seqs is {self.max_num_seqs}, at least 1 is needed")
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                f"max_num_batched_tokens ({self.max_num_batched_tokens}) is below max_num_seqs "
                f"({self.max_num_seqs}): a step could not decode every request; raise the first "
                "or lower the second"
            )


class Scheduler:
    """First come, first served within a priority; continuous batching over paged blocks."""

    def __init__(self, limits: Limits, kv_cache: KVCacheManager) -> None:
        self.limits = limits
        self.kv_cache = kv_cache
        self.waiting = WaitingQueue()
        self.sharing = Sharing()
        self.running: list[Request] = []  # sorted by key: the last one is preempted first
        self.num_preemptions = 0

    @property
    def num_waiting(self) -> int:
        """Requests that are not served yet, those set aside included."""
        return len(self.waiting) + len(self.sharing)

    def has_work(self) -> bool:
        return bool(self.running) or bool(self.waiting)

    def add(self, request: Request) -> None:
        """Queue a request."""
        assert request.status is Status.WAITING
        self.waiting.push(request)

    def remove(self, request: Request) -> None:
        """Take a request out for good, wherever it is: it finished or was aborted."""
        if request.status is Status.RUNNING:
            self._stop(request)
        elif request.status is Status.WAITING:
            self.waiting.discard(request)
            self.sharing.discard(request)
        request.status = Status.FINISHED

    def preempt_all(self) -> list[Request]:
        """Between steps: every running request goes back to the queue; those requests."""
        preempted = list(self.running)
        for request in reversed(preempted):
            self._put_back(request)
        return preempted

    def reset_prefix_cache(self) -> None:
        """Nothing that was computed until now will be found again."""
        for request in self.sharing.clear():
            self.waiting.push(request)
        self.kv_cache.reset()

    def schedule(self) -> Batch:
        """Plan the next step. The batch is empty only when nothing is waiting or running."""
        batch = Batch()
        self._schedule_decodes(batch)
        if len(batch.requests) < len(self.running):
            self._schedule_prefills(batch)
        if self.waiting and not batch.preempted:
            self._admit(batch)
        return batch

    def complete(self, batch: Batch) -> None:
        """The step ran: what was scheduled is computed."""
        size = self.kv_cache.block_size
        for request in batch.requests:
            before = request.num_computed_tokens
            request.num_computed_tokens = request.num_scheduled_tokens
            if before // size != request.num_computed_tokens // size:
                self._share(request)
        if self.kv_cache.window:
            for request in batch.requests:
                self.kv_cache.leave_behind(request.request_id, request.num_computed_tokens)

    def check_integrity(self) -> None:
        """Assert that blocks are conserved and that nobody waits in vain."""
        self.kv_cache.check_integrity()
        self.sharing.check_integrity()
        assert not self.sharing or self.running, "requests were set aside and nothing runs"

    def _schedule_decodes(self, batch: Batch) -> None:
        position, size = 0, self.kv_cache.block_size
        while position < len(self.running):  # preemption shortens the list from behind
            request = self.running[position]
            position += 1
            total = request.num_tokens
            if total - request.num_scheduled_tokens != 1:
                continue
            # The blocks of all tokens before this one are held: only a block's first token asks.
            if (total - 1) % size or self._make_room(request, batch):
                batch.add_decode(request, total)

    def _make_room(self, request: Request, batch: Batch) -> bool:
        """Blocks for all tokens of a running request; False when it had to give way itself."""
        held = len(self.kv_cache.table(request.request_id))
        while (blocks := self.kv_cache.grow(request.request_id, request.num_tokens)) is None:
            victim = self.running[-1]
            assert len(self.running) > 1 or victim is not request, (
                f"{request.request_id} alone needs {request.num_tokens} tokens of KV cache, "
                f"the pool has {self.kv_cache.num_tokens}"
            )
            self._preempt(victim, batch)
            if victim is request:
                return False
        if blocks:
            batch.new_blocks.append((request, held, blocks))
        return True

    def _preempt(self, request: Request, batch: Batch) -> None:
        self._put_back(request)
        batch.preempted.append(request)

    def _put_back(self, request: Request) -> None:
        self._stop(request)
        request.restart()
        request.status = Status.WAITING
        request.num_preemptions += 1
        self.num_preemptions += 1
        self.waiting.push(request)

    def _stop(self, request: Request) -> None:
        """A running request runs no more; who waited for its blocks gets another chance."""
        self.running.remove(request)
        uncomputed = request.block_hashes[self.kv_cache.num_shared(request.request_id) :]
        for waiter in self.sharing.withdraw(request, uncomputed):
            self.waiting.push(waiter)
        self.kv_cache.free(request.request_id)

    def _share(self, request: Request) -> None:
        """More full blocks of a request are computed: others may find them."""
        if not self.kv_cache.caching:
            return
        chain = chain_of(request, self.kv_cache.block_size, request.num_computed_tokens)
        first = self.kv_cache.num_shared(request.request_id)
        self.kv_cache.share(request.request_id, chain)
        for waiter in self.sharing.withdraw(request, chain[first:]):
            self.waiting.push(waiter)

    def _schedule_prefills(self, batch: Batch) -> None:
        budget = self.limits.max_num_batched_tokens - batch.num_tokens
        for request in self.running:
            if budget == 0:
                return
            count = min(request.num_missing_tokens, budget)
            if count > 0 and self._has_room(request, count, batch):
                batch.add(request, count)
                budget -= count
        if not batch.requests and self.running:
            self._preempt(self.running[-1], batch)
            self._schedule_prefills(batch)

    def _has_room(self, request: Request, count: int, batch: Batch) -> bool:
        """Blocks for the next `count` tokens of a prompt. They were there when it was admitted, but
        what it left behind may be in use by others: then it waits for them.
        """
        held = len(self.kv_cache.table(request.request_id))
        blocks = self.kv_cache.grow(request.request_id, request.num_scheduled_tokens + count)
        if blocks:
            batch.new_blocks.append((request, held, blocks))
        return blocks is not None

    def _admit(self, batch: Batch) -> None:
        budget = self.limits.max_num_batched_tokens - batch.num_tokens
        # Who is set aside keeps a seat: it comes back soon, and the queue is not walked for more.
        while budget > 0 and len(self.running) + len(self.sharing) < self.limits.max_num_seqs:
            request = self.waiting.peek()
            if request is None:
                return
            found = self._find(request)
            if self._set_aside(request, len(found)):
                continue
            if not self._start(request, found, batch):
                return
            count = min(request.num_missing_tokens, budget)
            batch.add(request, count)
            budget -= count

    def _chain(self, request: Request) -> list[bytes]:
        return chain_of(request, self.kv_cache.block_size, request.num_tokens)

    def _find(self, request: Request) -> list[int]:
        """The computed blocks that a request may begin with."""
        if not (self.kv_cache.caching and request.reads_cache):
            return []
        return self.kv_cache.find(self._chain(request), request.num_tokens)

    def _set_aside(self, request: Request, num_found: int) -> bool:
        """Whether the next request of the queue now waits for blocks that another computes."""
        if not (self.kv_cache.caching and request.reads_cache and self.running):
            return False
        last = (request.num_tokens - 1) // self.kv_cache.block_size
        if not self.sharing.set_aside(request, self._chain(request)[num_found:last]):
            return False
        self.waiting.pop()
        return True

    def _start(self, request: Request, found: list[int], batch: Batch) -> bool:
        """Waiting to running, if its blocks are there and each running request could get one
        more.
        """
        blocks = self.kv_cache.start(
            request.request_id,
            request.num_tokens,
            found,
            spare=len(self.running),
            step=self.limits.max_num_batched_tokens,
        )
        if blocks is None:
            return False
        self.waiting.pop()
        self._count_found(request, len(found))
        if self.kv_cache.caching:
            self.sharing.announce(request, self._chain(request)[len(found) :])
        request.status = Status.RUNNING
        insort(self.running, request, key=_KEY)
        batch.admitted.append(request)
        batch.new_blocks.append((request, 0, found + blocks))
        return True

    def _count_found(self, request: Request, num_blocks: int) -> None:
        num_cached = num_blocks * self.kv_cache.block_size
        request.begin(num_cached)
        if self.kv_cache.caching and request.reads_cache:
            again = request.num_preemptions > 0
            self.kv_cache.look_ups.count(request.num_tokens, num_cached, again)
