# SPDX-License-Identifier: Apache-2.0
"""Requests that begin alike compute their beginning once."""

from __future__ import annotations

from vllm.engine.request import Request, Status
from vllm.kvcache.manager import KVCacheManager
from vllm.scheduler.batch import Batch
from vllm.scheduler.scheduler import Limits, Scheduler

SYSTEM = list(range(100, 112))  # three blocks of four


def scheduler(blocks: int = 64, seqs: int = 8, tokens: int = 32, caching: bool = True) -> Scheduler:
    return Scheduler(Limits(seqs, tokens), KVCacheManager(blocks, 4, caching))


def make(order: int, tokens: list[int], **fields: object) -> Request:
    return Request(f"r{order}", tokens, None, order=order, **fields)  # type: ignore[arg-type]


def run_step(engine: Scheduler) -> dict[str, int]:
    """One step in which every request that is due gains the token 0; tokens computed of each."""
    batch: Batch = engine.schedule()
    engine.complete(batch)
    for request in batch.requests:
        if request.num_computed_tokens == request.num_tokens:
            request.output_token_ids.append(0)
    engine.check_integrity()
    return {r.request_id: c for r, c in zip(batch.requests, batch.counts, strict=True)}


def test_a_second_request_computes_only_its_own_end() -> None:
    engine = scheduler()
    engine.add(make(0, [*SYSTEM, 1]))
    assert run_step(engine) == {"r0": 13}
    engine.add(second := make(1, [*SYSTEM, 2, 3]))
    assert run_step(engine) == {"r0": 1, "r1": 2}
    assert (second.num_cached_tokens, second.num_found_tokens) == (12, 12)
    assert engine.kv_cache.table("r0")[:3] == engine.kv_cache.table("r1")[:3]
    counts = engine.kv_cache.take_look_ups()
    assert counts is not None
    assert (counts.requests, counts.queries, counts.hits) == (2, 27, 12)


def test_the_same_prompt_computes_its_last_block_again() -> None:
    engine = scheduler()
    for order in range(2):
        engine.add(request := make(order, list(SYSTEM)))
        while not request.output_token_ids:
            steps = run_step(engine)
        engine.remove(request)
    assert steps == {"r1": 4}


def test_choices_of_one_prompt_wait_for_the_first_of_them() -> None:
    engine = scheduler()
    requests = [make(order, [*SYSTEM, 1, 2]) for order in range(4)]
    for request in requests:
        engine.add(request)
    assert run_step(engine) == {"r0": 14}
    assert engine.num_waiting == 3
    assert run_step(engine) == {"r0": 1, "r1": 2, "r2": 2, "r3": 2}
    assert engine.num_waiting == 0
    tables = [engine.kv_cache.table(request.request_id) for request in requests]
    assert all(table[:3] == tables[0][:3] for table in tables)
    assert len({table[3] for table in tables}) == 4


def test_waiting_ends_with_the_last_common_block() -> None:
    engine = scheduler(tokens=8)
    engine.add(make(0, SYSTEM + list(range(40))))
    engine.add(make(1, [*SYSTEM, 7, 7, 7]))
    assert run_step(engine) == {"r0": 8}
    assert run_step(engine) == {"r0": 8}
    assert run_step(engine) == {"r0": 8}  # r1 is back, and r0 takes the whole budget
    assert engine.waiting.peek() is not None
    while "r1" not in (steps := run_step(engine)):
        assert steps["r0"] == 8
    assert steps == {"r0": 4, "r1": 3}


def test_nobody_waits_for_one_that_is_served_later() -> None:
    engine = scheduler(tokens=8, seqs=4)
    engine.add(make(1, [*SYSTEM, 1], priority=1))
    assert run_step(engine) == {"r1": 8}
    engine.add(urgent := make(2, [*SYSTEM, 2], priority=0))
    assert run_step(engine) == {"r1": 5, "r2": 3}
    assert urgent.num_cached_tokens == 8  # and not the third block, which was under way


def test_when_the_writer_goes_its_blocks_are_computed_by_the_next() -> None:
    engine = scheduler(tokens=8)
    first, second = make(0, [*SYSTEM, 1]), make(1, [*SYSTEM, 2])
    for request in (first, second):
        engine.add(request)
    assert run_step(engine) == {"r0": 8}
    engine.remove(first)
    engine.check_integrity()
    assert run_step(engine) == {"r1": 5}  # two blocks were done
    assert second.num_cached_tokens == 8


def test_one_that_waits_may_be_aborted() -> None:
    engine = scheduler(tokens=8)
    first, second = make(0, [*SYSTEM, 1]), make(1, [*SYSTEM, 2])
    for request in (first, second):
        engine.add(request)
    run_step(engine)
    assert engine.num_waiting == 1
    engine.remove(second)
    engine.check_integrity()
    assert engine.num_waiting == 0
    again = make(2, [*SYSTEM, 2])
    again.request_id = second.request_id  # which is free again
    engine.add(again)
    while not again.output_token_ids:
        run_step(engine)
    assert second.status is Status.FINISHED


def test_few_are_set_aside_however_many_wait() -> None:
    engine = scheduler(seqs=4)
    for order in range(500):
        engine.add(make(order, [*SYSTEM, order]))
    assert len(engine.schedule().requests) == 1
    assert len(engine.sharing) == 3
    assert len(engine.waiting) == 496


def test_salts_are_not_shared() -> None:
    engine = scheduler()
    for order, salt in enumerate([None, "a", "b", "a"]):
        engine.add(make(order, [*SYSTEM, 1], cache_salt=salt))
    assert run_step(engine) == {"r0": 13, "r1": 13, "r2": 6}
    run_step(engine)
    found = {r.request_id: r.num_cached_tokens for r in engine.running}
    assert found == {"r0": 0, "r1": 0, "r2": 0, "r3": 12}


def test_one_that_must_not_read_computes_everything_and_helps_others() -> None:
    engine = scheduler(tokens=64)
    engine.add(make(0, [*SYSTEM, 1]))
    engine.add(make(1, [*SYSTEM, 2], reads_cache=False))
    assert run_step(engine) == {"r0": 13, "r1": 13}
    for request in list(engine.running):
        engine.remove(request)
    engine.kv_cache.reset()
    engine.add(make(2, [*SYSTEM, 2], reads_cache=False))
    assert run_step(engine) == {"r2": 13}
    engine.add(make(3, [*SYSTEM, 3]))
    assert run_step(engine) == {"r2": 1, "r3": 1}


def test_reset_lets_everyone_compute_anew() -> None:
    engine = scheduler(tokens=8)
    for order in range(3):
        engine.add(make(order, [*SYSTEM, order]))
    run_step(engine)
    engine.reset_prefix_cache()
    engine.check_integrity()
    assert engine.num_waiting == 2
    while any(not request.num_computed_tokens for request in engine.running) or engine.num_waiting:
        run_step(engine)
    cached = {r.request_id: r.num_cached_tokens for r in engine.running}
    assert cached == {"r0": 0, "r1": 0, "r2": 12}


def test_preempt_all_puts_everyone_back_in_order() -> None:
    engine = scheduler(tokens=64)
    for order in range(3):
        engine.add(make(order, [order] * 9))
    run_step(engine)
    assert [r.request_id for r in engine.preempt_all()] == ["r0", "r1", "r2"]
    engine.check_integrity()
    assert engine.kv_cache.usage == 0.0
    assert run_step(engine) == {"r0": 2, "r1": 2, "r2": 2}  # ten tokens, eight of them cached


def test_without_caching_nothing_is_shared() -> None:
    engine = scheduler(caching=False)
    for order in range(2):
        engine.add(make(order, [*SYSTEM, 1]))
    assert run_step(engine) == {"r0": 13, "r1": 13}
    assert engine.kv_cache.take_look_ups() is None
