# SPDX-License-Identifier: Apache-2.0
"""The prefix cache seen from outside: the same answers, fewer tokens computed, honest counts."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import BOS, make_llama
from tests.unit.engine.drive import Result, finish, request
from vllm.config.engine import EngineConfig
from vllm.engine.core import EngineCore
from vllm.protocol.messages import EngineCoreRequest, EventType

SYSTEM = [BOS, *range(40, 103)]  # four blocks of 16


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("tiny"), seed=3)


def start(model: Path, **config: Any) -> EngineCore:
    return EngineCore(EngineConfig(str(model), device="cpu", dequantize=True, **config))


def cached(result: Result) -> int:
    return result.outputs[0].prefill_stats.num_cached_tokens


def salted(one: EngineCoreRequest, salt: str) -> EngineCoreRequest:
    one.cache_salt = salt
    return one


def conversations(seed: int, count: int) -> list[EngineCoreRequest]:
    """Requests that branch off earlier ones, greedy and sampled."""
    rng = random.Random(seed)
    prompts = [SYSTEM]
    requests = []
    for index in range(count):
        parent = rng.choice(prompts)
        prompt = parent[: rng.randrange(1, len(parent) + 1)]
        prompt = prompt + [rng.randrange(256) for _ in range(rng.randrange(1, 20))]
        prompts.append(prompt[:150])
        params: dict[str, Any] = {"max_tokens": rng.randrange(1, 30)}
        if rng.random() < 0.5:
            params |= {"temperature": 1.0, "seed": index, "repetition_penalty": 1.1}
        requests.append(request(str(index), prompts[-1], **params))
    return requests


@pytest.mark.parametrize("seed", [0, 1])
def test_answers_are_the_same_with_and_without(model: Path, seed: int) -> None:
    requests = conversations(seed, 40)
    without = start(model, enable_prefix_caching=False)
    expected = {name: result.tokens for name, result in finish(without, requests).items()}
    block = 4 * 2 * 2 * 2 * 16 * 16  # tokens, keys and values, layers, KV heads, head size, f32
    for config in ({}, {"max_num_seqs": 3}, {"kv_cache_memory": 24 * block, "block_size": 4}):
        engine = start(model, **config)
        results = finish(engine, requests)
        assert {name: result.tokens for name, result in results.items()} == expected
        assert sum(cached(result) for result in results.values()) > 200
    assert engine.scheduler.num_preemptions > 0
    assert without.stats().prefix_cache_stats.requests == 0


def test_the_second_request_is_told_what_was_cached(model: Path) -> None:
    engine = start(model)
    assert cached(finish(engine, [request("a", [*SYSTEM, 1])])["a"]) == 0
    engine.stats()
    result = finish(engine, [request("b", [*SYSTEM, 2])])["b"]
    stats = result.outputs[0].prefill_stats
    assert (stats.num_prompt_tokens, stats.num_computed_tokens) == (65, 1)
    assert (stats.num_cached_tokens, stats.num_local_cached_tokens) == (64, 64)
    counts = engine.stats().prefix_cache_stats
    assert (counts.requests, counts.queries, counts.hits) == (1, 65, 64)
    assert counts.hits_by_source == {"device": 64}
    assert engine.stats().prefix_cache_stats.requests == 0


def test_a_whole_prompt_again_computes_its_last_block(model: Path) -> None:
    engine = start(model)
    first = finish(engine, [request("a", SYSTEM, logprobs=2)])["a"]
    again = finish(engine, [request("a", SYSTEM, logprobs=2)])["a"]
    assert cached(again) == 48
    assert again.tokens == first.tokens
    for one, other in zip(first.outputs, again.outputs, strict=True):
        np.testing.assert_array_equal(one.new_logprobs.logprobs, other.new_logprobs.logprobs)


def test_an_answer_is_cached_for_the_next_turn(model: Path) -> None:
    engine = start(model)
    answer = finish(engine, [request("a", SYSTEM, max_tokens=20)])["a"].tokens
    result = finish(engine, [request("b", [*SYSTEM, *answer, 7])])["b"]
    assert cached(result) == 80  # 64 of the prompt, 16 of the 19 answer tokens that were computed


def test_choices_of_one_prompt_share_its_blocks(model: Path) -> None:
    engine = start(model)
    choices = [
        request(f"c{i}", [*SYSTEM, 9], temperature=1.0, seed=i, max_tokens=4) for i in range(4)
    ]
    results = finish(engine, choices)
    assert [cached(results[f"c{i}"]) for i in range(4)] == [0, 64, 64, 64]
    counts = engine.stats().prefix_cache_stats
    assert (counts.requests, counts.queries, counts.hits) == (4, 4 * 65, 3 * 64)


def test_salts_keep_clients_apart(model: Path) -> None:
    engine = start(model)
    one, other = (salted(request(name, [*SYSTEM, 1]), name) for name in "ab")
    plain, again = request("c", [*SYSTEM, 1]), salted(request("d", [*SYSTEM, 1]), "a")
    found = [
        cached(result)
        for each in (one, other, plain, again)
        for result in finish(engine, [each]).values()
    ]
    assert found == [0, 0, 0, 64]


@pytest.mark.parametrize("skip", [None, False])
def test_prompt_logprobs_are_complete_in_spite_of_the_cache(model: Path, skip: bool | None) -> None:
    engine = start(model)
    params = {"prompt_logprobs": 2, "skip_reading_prefix_cache": skip}
    first = finish(engine, [request("a", SYSTEM, **params)])["a"]
    again = finish(engine, [request("a", SYSTEM, **params)])["a"]
    assert cached(again) == 0
    one, other = (r.outputs[0].new_prompt_logprobs_tensors for r in (first, again))
    np.testing.assert_array_equal(one.logprobs.numpy(), other.logprobs.numpy())
    assert cached(finish(engine, [request("b", SYSTEM)])["b"]) == 48


def test_reset_forgets_and_leaves_running_requests_alone(model: Path) -> None:
    engine = start(model)
    expected = finish(engine, [request("r", SYSTEM)])["r"].tokens
    engine.add_request(request("r", SYSTEM))
    (first,) = engine.step()
    assert engine.reset_prefix_cache() is True
    assert first.new_token_ids + finish(engine)["r"].tokens == expected
    assert cached(finish(engine, [request("r", SYSTEM)])["r"]) == 0


def test_reset_can_begin_running_requests_anew(model: Path) -> None:
    engine = start(model, max_num_seqs=2)
    requests = [request(str(i), [*SYSTEM, i]) for i in range(4)]
    expected = {n: r.tokens for n, r in finish(engine, requests).items()}
    for one in requests:
        engine.add_request(one)
    tokens: dict[str, list[int]] = {}
    for output in (*engine.step(), *engine.step()):
        tokens.setdefault(output.request_id, []).extend(output.new_token_ids)
    assert engine.reset_prefix_cache(True) is True
    assert engine.scheduler.kv_cache.usage == 0.0
    engine.abort_requests(["1"])
    results = finish(engine)
    for name, result in results.items():
        assert tokens.get(name, []) + result.tokens == expected[name]
    kinds = [event.type for event in results["0"].outputs[0].events]
    assert kinds == [EventType.PREEMPTED, EventType.SCHEDULED]


def test_traffic_with_aborts_and_preemptions_changes_no_answer(model: Path) -> None:
    requests = conversations(5, 60)
    alone = {name: r.tokens for name, r in finish(start(model), requests).items()}
    block = 4 * 2 * 2 * 2 * 16 * 4  # tokens, keys and values, layers, KV heads, head size, f32
    engine = start(
        model, block_size=4, kv_cache_memory=60 * block, max_num_batched_tokens=40, max_num_seqs=6
    )
    rng = random.Random(6)
    waiting, got, aborted = list(reversed(requests)), dict.fromkeys(alone, 0), set()
    while waiting or engine.has_work():
        while waiting and rng.random() < 0.4:
            engine.add_request(waiting.pop())
        if engine.requests and rng.random() < 0.05:
            aborted.add(name := rng.choice(sorted(engine.requests)))
            engine.abort_requests([name])
        for output in engine.step():
            first = got[output.request_id]
            got[output.request_id] += len(output.new_token_ids)
            expected = alone[output.request_id][first : got[output.request_id]]
            assert output.new_token_ids == expected
        engine.scheduler.check_integrity()
    complete = {name for name, count in got.items() if count == len(alone[name])}
    assert complete | aborted == set(alone)
    assert aborted
    assert engine.scheduler.num_preemptions > 0
    assert engine.stats().prefix_cache_stats.hits > 200
    assert engine.scheduler.kv_cache.usage == 0.0
