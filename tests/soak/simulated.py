# SPDX-License-Identifier: Apache-2.0
"""Hours of traffic through scheduler and KV cache without tensors, on a clock of its own.

Owns the traffic and the promises: every request ends once, with what it asked for; blocks are
conserved; what is idle holds nothing; no request outlives its answer. A step takes as long as
`seconds_of` says; between steps requests arrive, of several priorities, salts and system prompts,
and some are aborted. The rate of arrivals follows the hour of the day, with rushes in which the
cache is too small and requests are preempted.
"""

from __future__ import annotations

import gc
import heapq
import math
import random
import weakref
from dataclasses import dataclass, field

from vllm.engine.request import Request
from vllm.kvcache.manager import KVCacheManager
from vllm.scheduler.batch import Batch
from vllm.scheduler.scheduler import Limits, Scheduler

BLOCKS, BLOCK_SIZE, SEQS, TOKENS = 256, 16, 16, 512
STEPS_BETWEEN_CHECKS = 500


def seconds_of(batch: Batch) -> float:
    """A mid-sized model on a slow machine."""
    return 0.03 + 0.001 * batch.num_tokens


def arrivals_per_second(now: float) -> float:
    """Quiet nights, busy days, a rush of five minutes each hour."""
    day = 0.15 + 0.15 * (1 - math.cos(2 * math.pi * now / 86_400))
    return day * (20.0 if now % 3600 < 300 else 1.0)


class WatchedRequest(Request):
    """One that can be referred to weakly, to see that it is let go."""


@dataclass
class Tally:
    """What happened; `wanted` output tokens of requests that are alive."""

    arrived: int = 0
    finished: int = 0
    aborted: int = 0
    steps: int = 0
    found: int = 0
    idle: int = 0
    wanted: dict[str, int] = field(default_factory=dict)


class Traffic:
    """One scheduler and a clock that starts at 0 seconds."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.engine = Scheduler(
            Limits(SEQS, TOKENS), KVCacheManager(BLOCKS, BLOCK_SIZE, caching=True)
        )
        self.now = 0.0
        self.next_arrival = 0.0
        self.tally = Tally()
        self.alive: dict[str, Request] = {}
        self.aborts: list[tuple[float, str]] = []
        self.systems = [self._text(length) for length in (40, 200, 700)]
        self.born: weakref.WeakSet[WatchedRequest] = weakref.WeakSet()

    def run(self, seconds: float) -> Tally:
        """Traffic for so long, then until nobody is left; raises AssertionError."""
        while self.now < seconds:
            self._arrive()
            self._abort()
            self._step()
        self.next_arrival = math.inf
        while self.alive:
            self._abort()
            self._step()
        self._check_idle()
        return self.tally

    def _text(self, length: int) -> list[int]:
        return [self.rng.randrange(32_000) for _ in range(length)]

    def _arrive(self) -> None:
        while self.next_arrival <= self.now:
            self._add()
            self.next_arrival += self.rng.expovariate(arrivals_per_second(self.now))

    def _add(self) -> None:
        name = f"r{self.tally.arrived}"
        prompt = self.rng.choice([[], *self.systems]) + self._text(self._length(3.5, 400))
        request = WatchedRequest(
            name,
            prompt,
            None,
            order=self.tally.arrived,
            priority=self.rng.choice([0, 0, 0, 1, -1]),
            cache_salt=self.rng.choice([None, None, None, "salt"]),
            reads_cache=self.rng.random() < 0.95,
        )
        self.tally.arrived += 1
        self.tally.wanted[name] = self._length(4.0, 1000)
        self.alive[name] = request
        self.born.add(request)
        self.engine.add(request)
        if self.rng.random() < 0.1:
            heapq.heappush(self.aborts, (self.now + self.rng.expovariate(0.2), name))

    def _length(self, mean: float, most: int) -> int:
        return min(most, 1 + int(self.rng.lognormvariate(mean, 1.0)))

    def _abort(self) -> None:
        while self.aborts and self.aborts[0][0] <= self.now:
            _, name = heapq.heappop(self.aborts)
            if name in self.alive:
                self.tally.aborted += 1
                self._end(name)

    def _end(self, name: str) -> None:
        self.engine.remove(self.alive.pop(name))
        del self.tally.wanted[name]

    def _step(self) -> None:
        if not self.engine.has_work():
            self._check_idle()
            self.now = max(self.now, min(self.next_arrival, 1e9))
            return
        batch = self.engine.schedule()
        assert batch.requests, "requests wait and none was scheduled"
        self.tally.found += sum(request.num_cached_tokens for request in batch.admitted)
        self.engine.complete(batch)
        for request in batch.requests:
            if request.num_computed_tokens == request.num_tokens:
                self._answer(request)
        self.now += seconds_of(batch)
        self.tally.steps += 1
        if self.tally.steps % STEPS_BETWEEN_CHECKS == 0:
            self.engine.check_integrity()

    def _answer(self, request: Request) -> None:
        name = request.request_id
        assert self.alive.get(name) is request, f"{name} is answered after its end"
        request.output_token_ids.append(self.rng.randrange(32_000))
        if request.num_output_tokens == self.tally.wanted[name]:
            self.tally.finished += 1
            self._end(name)

    def _check_idle(self) -> None:
        """Nobody is there: nothing is held, waited for or remembered but the prefix cache."""
        engine, tally = self.engine, self.tally
        tally.idle += 1
        assert tally.finished + tally.aborted == tally.arrived, "a request has no end, or two"
        assert engine.kv_cache.usage == 0.0, "blocks are held and nobody runs"
        assert not engine.running and engine.num_waiting == 0
        if tally.idle % STEPS_BETWEEN_CHECKS == 1:
            engine.check_integrity()
            gc.collect()
            assert not self.born, f"{len(self.born)} requests are kept after their end"
