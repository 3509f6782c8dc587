# SPDX-License-Identifier: Apache-2.0
"""The scheduler alone, with tokens made up: one rule at a time."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from vllm.engine.request import Request, Status
from vllm.kvcache.manager import KVCacheManager
from vllm.scheduler.batch import Batch
from vllm.scheduler.queue import WaitingQueue
from vllm.scheduler.scheduler import Limits, Scheduler


def make(name: str, prompt: int, order: int = 0, priority: int = 0) -> Request:
    """A request whose tokens no other one has."""
    tokens = list(range(1000 * order, 1000 * order + prompt))
    return Request(name, tokens, None, order=order, priority=priority)


def scheduler(blocks: int = 64, seqs: int = 8, tokens: int = 32, block_size: int = 4) -> Scheduler:
    return Scheduler(Limits(seqs, tokens), KVCacheManager(blocks, block_size))


def run_step(engine: Scheduler) -> Batch:
    """Schedule, and give every request whose prompt is through one more token."""
    batch = engine.schedule()
    engine.complete(batch)
    for request in batch.requests:
        if request.num_computed_tokens == request.num_tokens:
            request.output_token_ids.append(0)
    engine.check_integrity()
    return batch


def plan(batch: Batch) -> dict[str, int]:
    return {r.request_id: c for r, c in zip(batch.requests, batch.counts, strict=True)}


def test_a_batch_is_a_decode_when_it_computes_the_last_token_of_every_request() -> None:
    batch = Batch()
    batch.add(make("last", 1), 1)
    assert batch.is_decode
    batch.add(make("one of three", 3), 1)
    assert not batch.is_decode


def test_prompt_is_chunked_and_shares_a_step_with_decodes() -> None:
    engine = scheduler(tokens=10)
    engine.add(make("short", 4, order=0))
    assert plan(run_step(engine)) == {"short": 4}
    engine.add(make("long", 20, order=1))
    assert plan(run_step(engine)) == {"short": 1, "long": 9}
    assert plan(run_step(engine)) == {"short": 1, "long": 9}
    assert plan(run_step(engine)) == {"short": 1, "long": 2}
    assert plan(run_step(engine)) == {"short": 1, "long": 1}


def test_priority_is_served_first_then_arrival() -> None:
    engine = scheduler(seqs=1)
    for order, (name, priority) in enumerate([("a", 1), ("b", 0), ("c", 0)]):
        engine.add(make(name, 3, order, priority))
    served = []
    while engine.has_work():
        (request,) = engine.schedule().requests
        served.append(request.request_id)
        engine.remove(request)
    assert served == ["b", "c", "a"]


def test_last_in_order_is_preempted_and_comes_back() -> None:
    engine = scheduler(blocks=5, block_size=4)
    engine.add(make("first", 8, order=0))
    engine.add(make("second", 7, order=1))
    run_step(engine)
    batch = run_step(engine)  # first takes the fifth block; second, at 8 tokens, still fits
    assert plan(batch) == {"first": 1, "second": 1}
    batch = run_step(engine)
    assert [r.request_id for r in batch.preempted] == ["second"]
    assert plan(batch) == {"first": 1}
    second = batch.preempted[0]
    assert second.status is Status.WAITING
    assert second.num_computed_tokens == 0
    assert second.num_tokens == 9
    engine.remove(engine.running[0])
    assert plan(run_step(engine)) == {"second": 1}  # its two full blocks were still there
    assert (second.num_cached_tokens, second.num_found_tokens) == (8, 0)


def test_least_urgent_then_latest_is_preempted() -> None:
    engine = scheduler(blocks=13, block_size=4)
    for order, priority in enumerate([5, -1, 5, 0]):
        engine.add(make(str(order), 8, order, priority))
    assert len(run_step(engine).requests) == 4
    preempted: list[str] = []
    while len(engine.running) > 1:
        preempted += [r.request_id for r in run_step(engine).preempted]
    assert preempted == ["2", "0", "3"]
    order = [engine.waiting.pop().request_id for _ in range(3)]
    assert order == ["3", "0", "2"]


def test_abort_frees_blocks_wherever_the_request_is() -> None:
    engine = scheduler(seqs=1)
    running, waiting = make("r", 8, order=0), make("w", 8, order=1)
    engine.add(running)
    engine.add(waiting)
    run_step(engine)
    engine.remove(waiting)
    engine.remove(running)
    assert not engine.has_work()
    assert engine.kv_cache.usage == 0.0
    assert engine.schedule().requests == []


def test_limits_refuse_a_budget_below_the_sequences() -> None:
    with pytest.raises(
        ValueError, match=r"max_num_batched_tokens \(4\) is below max_num_seqs \(8\)"
    ):
        Limits(8, 4)


def test_aborted_entries_leave_the_queue() -> None:
    queue = WaitingQueue()
    requests = [make(str(i), 1, order=i) for i in range(1000)]
    for request in requests:
        queue.push(request)
    for request in requests[:-1]:
        queue.discard(request)
    assert len(queue) == 1
    assert len(queue._heap) <= 130
    assert queue.pop() is requests[-1]
    assert queue.peek() is None


def test_id_of_an_aborted_request_may_come_back_at_once() -> None:
    engine = scheduler(seqs=1)
    running, aborted, again = make("r", 8, 0), make("x", 8, 1), make("x", 5, 2)
    for request in (running, aborted):
        engine.add(request)
    run_step(engine)
    engine.remove(aborted)
    engine.add(again)
    engine.remove(aborted)  # nothing to take back: the waiting request is another one
    engine.remove(running)
    assert engine.schedule().requests == [again]
    assert aborted.status is Status.FINISHED
    assert not engine.waiting


def _calls_of_steps(waiting: int, alike: bool) -> list[int]:
    """Python and C calls of three steps while `waiting` requests queue: one in which all seats are
    taken, one that admits a request, and one that could admit but sets requests aside (if their
    prompts are `alike`).
    """
    engine = scheduler(seqs=3, blocks=64)
    for order in range(waiting + 3):
        request = make(str(order), 9, order=order)
        request.prompt_token_ids = [*range(9)] if alike else request.prompt_token_ids
        engine.add(request)
    while len(engine.running) < 3:
        run_step(engine)
    counts = []
    for ends in (0, 1, 3):
        for request in engine.running[:ends]:
            engine.remove(request)
        if ends == 3:
            engine.kv_cache.reset()
        calls, batch = _calls(engine.schedule)
        counts.append(calls)
        engine.complete(batch)
    return counts


def _calls(schedule: Callable[[], Batch]) -> tuple[int, Batch]:
    calls = 0

    def count(_frame: object, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        batch = schedule()
    finally:
        sys.setprofile(None)
    return calls, batch


@pytest.mark.parametrize("alike", [False, True])
def test_a_step_costs_the_same_however_many_wait(alike: bool) -> None:
    assert _calls_of_steps(10, alike) == _calls_of_steps(100_000, alike)
