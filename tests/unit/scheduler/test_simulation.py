# SPDX-License-Identifier: Apache-2.0
"""Seeded simulations: random arrivals, aborts, preemptions, resets and shared beginnings.

Every promise is checked after every step, and so is what is in the blocks: each slot remembers the
tokens that were written up to it, and a request that takes a token as computed must find its own
there.
"""

from __future__ import annotations

import random

import pytest

from vllm.engine.request import Request, Status
from vllm.kvcache.manager import TILE, KVCacheManager, blocks_in_window
from vllm.scheduler.batch import Batch
from vllm.scheduler.scheduler import Limits, Scheduler

SALTS = (None, None, None, "a", "b")
LONGEST = 60


class Simulation:
    """One scheduler and its traffic."""

    def __init__(self, seed: int, caching: bool = True, window: int = 0) -> None:
        self.rng = random.Random(seed)
        self.block_size = self.rng.choice([1, 4, 16])
        blocks = -(-LONGEST // self.block_size) + self.rng.randrange(40)
        seqs = self.rng.randrange(1, 12)
        limits = Limits(seqs, seqs + self.rng.randrange(40))
        self.window = window
        if window:  # as few blocks as one request needs, and some more
            most = blocks_in_window(window, limits.max_num_batched_tokens, self.block_size)
            blocks = min(blocks, most + self.rng.randrange(10))
        self.engine = Scheduler(limits, KVCacheManager(blocks, self.block_size, caching, window))
        self.alive: dict[str, Request] = {}
        self.lengths: dict[str, int] = {}
        self.slots: dict[tuple[int, int], object] = {}
        self.beginnings = [self.text(30) for _ in range(4)]
        self.arrivals = self.finished = self.cached = 0

    def text(self, length: int) -> list[int]:
        return [self.rng.randrange(3) for _ in range(length)]

    def arrive(self) -> None:
        name = f"r{self.arrivals}"
        prompt = self.rng.choice(self.beginnings)[: self.rng.randrange(31)]
        prompt = prompt + self.text(self.rng.randrange(1, 10))
        request = Request(
            name,
            prompt,
            None,
            order=self.arrivals,
            priority=self.rng.choice([0, 0, 0, 1, -1]),
            cache_salt=self.rng.choice(SALTS),
            reads_cache=self.rng.random() < 0.9,
        )
        self.arrivals += 1
        self.alive[name] = request
        self.lengths[name] = len(prompt) + self.rng.randrange(1, LONGEST - len(prompt) + 1)
        self.engine.add(request)

    def abort(self) -> None:
        if self.alive:
            name = self.rng.choice(sorted(self.alive))
            self.engine.remove(self.alive.pop(name))

    def disturb(self) -> None:
        """What operators do between steps."""
        if self.rng.random() < 0.5:
            self.engine.preempt_all()
        if self.rng.random() < 0.5:
            self.engine.reset_prefix_cache()
            self.slots.clear()
            for request in self.engine.running:
                gone = self.engine.kv_cache.num_gone(request.request_id) * self.block_size
                self.write(request, gone, request.num_computed_tokens - gone)
        self.engine.check_integrity()

    def step(self) -> Batch:
        before = {r: r.num_computed_tokens for r in self.engine.running}
        batch = self.engine.schedule()
        self.check(batch, before)
        self.compute(batch)
        self.engine.complete(batch)
        for request in batch.requests:
            if request.num_computed_tokens == request.num_tokens:
                self.grow(request)
        self.engine.check_integrity()
        return batch

    def grow(self, request: Request) -> None:
        if request.num_tokens + 1 >= self.lengths[request.request_id]:
            self.engine.remove(self.alive.pop(request.request_id))
            self.finished += 1
        else:
            request.output_token_ids.append(self.rng.randrange(3))

    # ------------------------------------------------------------------------------ block contents

    def compute(self, batch: Batch) -> None:
        for request in batch.admitted:
            self.cached += request.num_cached_tokens
        for request, count in zip(batch.requests, batch.counts, strict=True):
            self.write(request, request.num_computed_tokens, count)
        for request in batch.requests:
            seen = max(0, request.num_computed_tokens - self.window + 1) if self.window else 0
            for position in range(seen // TILE * TILE, request.num_scheduled_tokens):
                assert self.slots[self.slot(request, position)] == self.content(request, position)

    def write(self, request: Request, first: int, count: int) -> None:
        for position in range(first, first + count):
            self.slots[self.slot(request, position)] = self.content(request, position)

    def slot(self, request: Request, position: int) -> tuple[int, int]:
        table = self.engine.kv_cache.table(request.request_id)
        return table[position // self.block_size], position % self.block_size

    def content(self, request: Request, position: int) -> object:
        """What a token's keys and values depend on."""
        return (request.cache_salt, tuple(request.tokens(0, position + 1)))

    # ------------------------------------------------------------------------------------ promises

    def check(self, batch: Batch, before: dict[Request, int]) -> None:
        limits, kv_cache = self.engine.limits, self.engine.kv_cache
        assert batch.num_tokens == sum(batch.counts) <= limits.max_num_batched_tokens
        assert len(self.engine.running) <= limits.max_num_seqs
        assert len(set(batch.requests)) == len(batch.requests)
        assert self.engine.running == sorted(self.engine.running, key=lambda r: r.key)
        assert all(count > 0 for count in batch.counts)
        for request, count in zip(batch.requests, batch.counts, strict=True):
            request.check_counts()
            assert request.status is Status.RUNNING
            computed = before.get(request, request.num_cached_tokens)
            assert request.num_scheduled_tokens == computed + count
            assert request.reads_cache or request.num_cached_tokens == 0
            assert request.num_cached_tokens < request.num_tokens
            held = len(kv_cache.table(request.request_id))
            assert held * self.block_size >= request.num_scheduled_tokens
            self.check_window(request, held - kv_cache.num_gone(request.request_id))
        if self.alive:
            assert batch.requests, "work is waiting and nothing was scheduled"
        for request in self.engine.running:
            decodes = request.num_tokens - request.num_computed_tokens == 1
            assert not decodes or request in batch.requests, "a decode was left out"

    def check_window(self, request: Request, held: int) -> None:
        """Of a long request only what its next tokens look at is held."""
        if self.window:
            step = self.engine.limits.max_num_batched_tokens
            assert held <= blocks_in_window(self.window, step, self.block_size)

    def traffic(self, steps: int) -> None:
        for _ in range(steps):
            if self.rng.random() < 0.3:
                self.arrive()
            if self.rng.random() < 0.03:
                self.abort()
            if self.rng.random() < 0.005:
                self.disturb()
            self.step()

    def drain(self) -> None:
        for _ in range(100_000):
            if not self.alive:
                return
            self.step()
        raise AssertionError(f"{len(self.alive)} requests did not end")


@pytest.mark.parametrize("seed", range(12))
def test_simulation(seed: int) -> None:
    simulation = Simulation(seed)
    simulation.traffic(1000)
    simulation.drain()
    assert simulation.finished > 20
    assert simulation.cached > 0
    assert simulation.engine.kv_cache.usage == 0.0
    assert not simulation.engine.has_work()
    assert simulation.engine.num_waiting == 0
    assert not simulation.engine.sharing._writers


@pytest.mark.parametrize("caching", [True, False])
@pytest.mark.parametrize("window", [1, 2, 5, 16, 17, 33])
def test_simulation_with_a_window(window: int, caching: bool) -> None:
    finished = cached = gone = preempted = 0
    for seed in range(8):
        simulation = Simulation(seed, caching, window)
        simulation.traffic(300)
        gone += sum(
            simulation.engine.kv_cache.num_gone(request.request_id)
            for request in simulation.engine.running
        )
        simulation.drain()
        finished += simulation.finished
        cached += simulation.cached
        preempted += simulation.engine.num_preemptions
        assert simulation.engine.kv_cache.usage == 0.0
        assert simulation.engine.num_waiting == 0
    assert finished > 100
    assert gone > 0
    assert preempted > 0
    assert (cached > 0) == caching


def test_a_long_simulation() -> None:
    simulation = Simulation(100)
    simulation.traffic(10_000)
    simulation.drain()
    assert simulation.finished > 1000
    assert simulation.engine.kv_cache.usage == 0.0


def test_simulations_do_preempt_and_find() -> None:
    preempted = cached = 0
    for seed in range(6):
        simulation = Simulation(seed)
        for _ in range(300):
            simulation.arrive()
            simulation.step()
        preempted += simulation.engine.num_preemptions
        cached += simulation.cached
    assert preempted >= 20
    assert cached >= 1000


def test_simulation_without_caching() -> None:
    simulation = Simulation(3, caching=False)
    simulation.traffic(1000)
    simulation.drain()
    assert simulation.cached == 0
    assert len(simulation.engine.kv_cache.index) == 0
