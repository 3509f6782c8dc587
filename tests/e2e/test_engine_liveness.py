# SPDX-License-Identifier: Apache-2.0
"""An engine below `vllm serve` that stops answering without ending, and goes on later."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.e2e.conftest import Start, frontend_environment
from tests.e2e.server import PATIENCE_S, wait_for
from tests.e2e.streams import Reader, complete, health


def test_a_stopped_engine_fails_its_streams_and_is_taken_back(
    start: Start, tiny_model: Path
) -> None:
    server = start(tiny_model, "--port", 0, **frontend_environment("rust")).wait_ready()
    frontend, engine = server.wait_pid("frontend"), server.wait_pid("engine")
    readers = [Reader(server) for _ in range(5)]
    server.kill("engine", signal.SIGSTOP)
    for reader in readers:
        reader.join(PATIENCE_S)
        assert not reader.is_alive()
        assert any(line.startswith('data: {"error":') for line in reader.lines[-2:]), reader.lines
    assert health(server) == 503
    assert health(server, "/live") == 200
    assert complete(server).status_code == 503
    assert "engine 0 did not answer within 6 s" in server.log
    server.kill("engine", signal.SIGCONT)
    wait_for(lambda: health(server) == 200, "the engine to be taken back")
    assert complete(server).json()["usage"]["completion_tokens"] == 4
    assert (server.pid_of("frontend"), server.pid_of("engine")) == (frontend, engine)


def test_only_the_requests_of_the_stopped_engine_fail(start: Start, tiny_model: Path) -> None:
    flags = ["--port", 0, "--data-parallel-size", 2]
    server = start(tiny_model, *flags, **frontend_environment("rust")).wait_ready()
    on_rank = [Reader(server, rank=0, max_tokens=400), Reader(server, rank=1)]
    server.kill("engine 1", signal.SIGSTOP)
    for reader in on_rank:
        reader.join(PATIENCE_S)
    assert on_rank[0].lines[-1] == "data: [DONE]"
    assert any(line.startswith('data: {"error":') for line in on_rank[1].lines[-2:])
    assert health(server) == 200
    assert complete(server).status_code == 200
