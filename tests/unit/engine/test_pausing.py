# SPDX-License-Identifier: Apache-2.0
"""Pause, resume, sleep and wake: who ends, who waits, who goes on where it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.models import BOS, make_llama
from tests.unit.engine.drive import finish, request
from vllm.config.engine import EngineConfig
from vllm.engine.core import EngineCore
from vllm.errors import NotSupported, RequestError
from vllm.protocol.messages import FinishReason

PROMPT = [BOS, *range(10, 50)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("tiny"), seed=3)


@pytest.fixture(scope="module")
def expected(model: Path) -> list[int]:
    return finish(start(model), [request("r", PROMPT)])["r"].tokens


def start(model: Path, **config: Any) -> EngineCore:
    return EngineCore(EngineConfig(str(model), dequantize=True, **config))


def begun(model: Path, **config: Any) -> tuple[EngineCore, list[int]]:
    """An engine with one running request, and the tokens it got so far."""
    engine = start(model, **config)
    engine.add_request(request("r", PROMPT))
    return engine, engine.step()[0].new_token_ids + engine.step()[0].new_token_ids


def test_abort_ends_requests_and_refuses_new_ones(model: Path) -> None:
    engine, _ = begun(model)
    assert engine.pause_generation("abort", True).result(0) is None
    assert engine.is_scheduler_paused()
    assert [o.finish_reason for o in engine.step()] == [FinishReason.ABORT]
    assert not engine.has_work()
    with pytest.raises(RequestError, match="paused") as caught:
        engine.add_request(request("b", PROMPT))
    assert (caught.value.code, caught.value.retryable) == ("engine_paused", True)
    engine.resume_scheduler()
    assert len(finish(engine, [request("b", PROMPT)])["b"].tokens) == 8


@pytest.mark.parametrize("clear_cache", [False, True])
def test_keep_freezes_requests(model: Path, expected: list[int], clear_cache: bool) -> None:
    engine, first = begun(model)
    assert engine.pause_generation("keep", clear_cache).done()
    assert (engine.scheduler.kv_cache.usage == 0.0) == clear_cache
    engine.add_request(request("late", PROMPT))
    assert not engine.has_work()
    assert engine.step() == []
    engine.resume_scheduler()
    results = finish(engine)
    assert first + results["r"].tokens == expected
    assert results["late"].tokens == expected


def test_wait_lets_requests_finish(model: Path, expected: list[int]) -> None:
    engine, first = begun(model)
    paused = engine.pause_scheduler("wait", True)
    assert not paused.done()
    with pytest.raises(RequestError, match="paused"):
        engine.add_request(request("b", PROMPT))
    assert first + finish(engine)["r"].tokens == expected
    assert paused.result(0) is None
    assert len(engine.scheduler.kv_cache.index) == 0
    assert engine.is_scheduler_paused()
    assert engine.pause_generation("wait").done()  # nothing runs any more


def test_wait_ends_with_an_abort_of_the_last_request(model: Path) -> None:
    engine, _ = begun(model)
    paused = engine.pause_generation("wait")
    engine.abort_requests(["r"])
    assert paused.done()


def test_resume_tells_who_still_waits(model: Path, expected: list[int]) -> None:
    engine, first = begun(model)
    paused = engine.pause_generation("wait")
    engine.resume_scheduler()
    with pytest.raises(RequestError, match="resumed before"):
        paused.result(0)
    assert first + finish(engine)["r"].tokens == expected


def test_sleep_gives_memory_back_and_wake_goes_on(model: Path, expected: list[int]) -> None:
    engine, first = begun(model)
    assert engine.registration().enable_sleep_mode
    assert engine.sleep(1, "keep").done()
    assert engine.is_sleeping()
    assert engine.runner.caches == []
    assert not engine.has_work()
    assert engine.step() == []
    for call in (engine.resume_scheduler, engine.pause_generation):
        with pytest.raises(RequestError, match="asleep"):
            call()
    assert engine.wake_up(["weights"]) is False
    assert engine.wake_up(["kv_cache"]) is True
    assert not engine.is_sleeping()
    assert not engine.is_scheduler_paused()
    assert first + finish(engine)["r"].tokens == expected


def test_sleep_waits_for_requests_in_mode_wait(model: Path, expected: list[int]) -> None:
    engine, first = begun(model)
    asleep = engine.sleep(1, "wait")
    assert not asleep.done()
    assert not engine.is_sleeping()
    assert first + finish(engine)["r"].tokens == expected
    assert asleep.done()
    assert engine.is_sleeping()
    assert engine.wake_up() is True
    assert finish(engine, [request("again", PROMPT)])["again"].tokens == expected


def test_level_0_only_pauses(model: Path) -> None:
    engine, _ = begun(model)
    engine.sleep(0, "keep")
    assert engine.is_sleeping()
    assert engine.runner.caches
    assert engine.scheduler.kv_cache.usage > 0
    assert engine.wake_up() is True
    assert len(finish(engine)["r"].tokens) == 6


def test_what_is_not_built_is_refused_before_anything_changes(model: Path) -> None:
    engine, _ = begun(model)
    refusals = [
        (lambda: engine.sleep(2), "sleep level 2"),
        (lambda: engine.sleep(1, "soon"), "pause mode 'soon'"),
        (lambda: engine.pause_generation("soon"), "pause mode 'soon'"),
        (lambda: engine.wake_up(["limbs"]), "wake-up tag 'limbs'"),
    ]
    for call, words in refusals:
        with pytest.raises(NotSupported, match=words):
            call()
    assert not engine.is_scheduler_paused()
    assert len(finish(engine)["r"].tokens) == 6
