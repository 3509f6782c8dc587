# SPDX-License-Identifier: Apache-2.0
"""When engines are started again, on a clock of the test's own."""

from __future__ import annotations

from vllm.cli.restarts import FIRST_PAUSE_S, WINDOW_S, Restarts


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_each_start_waits_longer_and_there_are_so_many() -> None:
    clock = Clock()
    restarts = Restarts(3, clock)
    for pause in (1, 2, 4):
        assert f"in {pause} s" in (restarts.died(0) or "")
        assert restarts.take_due() == []
        assert restarts.pause_ms() == pause * 1000 + 1
        clock.now += pause
        assert restarts.take_due() == [0]
        assert restarts.take_due() == []
        assert restarts.pause_ms() is None
    assert restarts.died(0) is None
    assert restarts.spent.startswith("it was started again 3 times within 10 minutes")
    assert restarts.died(1) is not None, "each engine has its own share"


def test_old_starts_are_forgotten() -> None:
    clock = Clock()
    restarts = Restarts(1, clock)
    assert restarts.died(0)
    clock.now += WINDOW_S - 1
    assert restarts.died(0) is None
    clock.now += 1
    plan = restarts.died(0)
    assert plan is not None
    assert f"in {FIRST_PAUSE_S:g} s" in plan


def test_none_at_all() -> None:
    assert Restarts(0).died(0) is None


def test_an_engine_that_does_not_become_ready_is_overdue_once() -> None:
    clock = Clock()
    restarts = Restarts(3, clock)
    restarts.started(0, 60)
    restarts.started(1, 60)
    assert restarts.starting == (0, 1)
    restarts.ready(1)
    clock.now += 60
    assert restarts.take_overdue() == [0]
    assert restarts.take_overdue() == []
    assert restarts.starting == ()


def test_no_starts_at_all_are_called_by_the_flag() -> None:
    assert Restarts(0).spent == "--engine-restarts is 0"
