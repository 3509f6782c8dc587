# SPDX-License-Identifier: Apache-2.0
"""Many engines and many streams: everybody is served, evenly, and nothing is left behind."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.crowd import Crowd
from tests.e2e.doubles import Deployment, deployment, raise_descriptor_limit
from tests.e2e.server import PATIENCE_S, wait_for

ENGINES = 64


@pytest.fixture
def running(tiny_model: Path) -> Iterator[Deployment]:
    raise_descriptor_limit()
    # Doubles that share a process with 63 others on a busy machine are slow, not dead.
    with deployment(tiny_model, ENGINES, engine_silence_timeout=30) as running:
        running.double(0, ENGINES, "--max-batch", "1000", "--step-ms", "500")
        running.wait_healthy()
        yield running


def _serve(running: Deployment, count: int) -> None:
    """So many streams at once: evenly spread, whole, and gone afterwards."""
    (double,) = running.doubles
    tokens = double.counters()["tokens"]
    with Crowd(running.port, count) as crowd:
        wait_for(lambda: sum(running.engine_loads().values()) == count, "all to be sent")
        loads = running.engine_loads().values()
        assert max(loads) - min(loads) <= 1, sorted(loads)
        crowd.wait_started()
        assert crowd.running == count
        for engine in range(ENGINES):
            double.finish(engine)
        assert crowd.check() == double.counters()["tokens"] - tokens
    wait_for(lambda: set(running.engine_loads().values()) == {0}, "idle engines")
    wait_for(double.is_idle, "no request left in any engine")
    wait_for(lambda: running.metric("num_requests_running") == 0, "the gauge at 0")


def _stop(running: Deployment) -> None:
    """The frontend ends at once; its engines see it."""
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(PATIENCE_S) == 0
    assert running.doubles[0].process.wait(PATIENCE_S) == 0


def test_uniform_bursts_are_spread_evenly_over_64_engines(running: Deployment) -> None:
    sockets = running.sockets()
    for burst in (1, 63, 65, 640):
        _serve(running, burst)
    wait_for(lambda: running.sockets() <= sockets, "every connection to be closed")
    _stop(running)


@pytest.mark.slow
def test_10000_open_streams(running: Deployment) -> None:
    sockets = running.sockets()
    _serve(running, 10_000)
    wait_for(lambda: running.sockets() <= sockets, "every connection to be closed")
    assert "ERROR" not in running.log
    _stop(running)
