# SPDX-License-Identifier: Apache-2.0
"""An engine that dies is started again; the frontend keeps its process and its port."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import RUST_MISSING, Start, frontend_environment, rust_frontend
from tests.e2e.loopback import free_port
from tests.e2e.server import PATIENCE_S, Server, wait_for
from tests.e2e.streams import Reader, complete, health
from vllm.errors import ExitCode


def wait_back(server: Server) -> None:
    wait_for(lambda: server.ended or health(server) == 200, "the engine to be back")


def test_an_engine_killed_under_streams_comes_back(
    start: Start, tiny_model: Path, frontend: dict[str, str]
) -> None:
    server = start(tiny_model, "--port", 0, **frontend).wait_ready()
    url, pid, engine = server.url, server.wait_pid("frontend"), server.wait_pid("engine")
    readers = [Reader(server) for _ in range(5)]  # more: the first could be through
    server.kill("engine")
    for reader in readers:
        reader.join(PATIENCE_S)
        assert any(line.startswith('data: {"error":') for line in reader.lines[-2:]), reader.lines
    assert health(server) == 503
    assert complete(server).status_code == 503
    wait_back(server)
    assert complete(server).json()["usage"]["completion_tokens"] == 4
    assert (server.url, server.pid_of("frontend")) == (url, pid)
    assert server.pid_of("engine") != engine
    planned = [line for line in server.errors if "starting it again" in line]
    assert len(planned) == 1
    assert "SIGKILL" in planned[0]
    assert "in 1 s (1 of 3 within 10 minutes)" in planned[0]
    server.process.send_signal(signal.SIGTERM)
    assert server.wait_exit() == ExitCode.OK
    server.assert_nothing_left()


def test_an_engine_that_was_stopped_and_then_killed_comes_back(
    start: Start, tiny_model: Path
) -> None:
    server = start(tiny_model, "--port", 0, **frontend_environment("rust")).wait_ready()
    pid = server.wait_pid("frontend")
    reader = Reader(server)
    server.kill("engine", signal.SIGSTOP)
    reader.join(PATIENCE_S)
    assert any(line.startswith('data: {"error":') for line in reader.lines[-2:]), reader.lines
    server.kill("engine")
    wait_for(lambda: "engine 0 is back" in server.log, "the new engine")
    wait_back(server)
    assert complete(server).status_code == 200
    assert server.pid_of("frontend") == pid


def test_after_its_share_of_starts_everything_ends(start: Start, tiny_model: Path) -> None:
    server = start(tiny_model, "--port", 0, "--engine-restarts", 1).wait_ready()
    server.kill("engine")
    wait_for(lambda: "engine 0 is back" in server.log, "the new engine")
    server.kill("engine")
    assert server.wait_exit() == ExitCode.ENGINE_DIED
    assert "SIGKILL" in server.errors[-1]
    server.assert_nothing_left()


def test_a_signal_while_an_engine_is_away_is_a_clean_end(start: Start, tiny_model: Path) -> None:
    server = start(tiny_model, "--port", 0).wait_ready()
    server.kill("engine")
    wait_for(lambda: "starting it again" in server.log, "the death to be noticed")
    server.process.send_signal(signal.SIGTERM)
    assert server.wait_exit() == ExitCode.OK
    server.assert_nothing_left()


def test_an_engine_of_another_host_comes_back(start: Start, tiny_model: Path) -> None:
    common = ["--data-parallel-size", 2, "--data-parallel-rpc-port", free_port()]
    rust = frontend_environment("rust")
    server = start(tiny_model, "--port", 0, "--data-parallel-size-local", 1, *common, **rust)
    remote = start(tiny_model, "--headless", "--data-parallel-start-rank", 1, *common)
    server.wait_ready()
    on_rank = [Reader(server, rank=0, max_tokens=400), Reader(server, rank=1)]
    remote.kill("engine")
    for reader in on_rank:
        reader.join(PATIENCE_S)
    assert on_rank[0].lines[-1] == "data: [DONE]"
    assert any(line.startswith('data: {"error":') for line in on_rank[1].lines[-2:])
    assert health(server) == 200

    def serves_again() -> bool:
        body = {"prompt": "x", "max_tokens": 1}
        headers = {"X-data-parallel-rank": "1"}
        answer = httpx.post(f"{server.url}/v1/completions", json=body, headers=headers, timeout=60)
        return answer.status_code == 200

    wait_for(serves_again, "rank 1 to serve again")


def test_the_engine_below_the_rust_parent_comes_back(tiny_model: Path, tmp_path: Path) -> None:
    """`vllm-rs serve` is the parent: it starts the headless supervisor, which starts the engine."""
    binary = rust_frontend()
    if binary is None:
        pytest.skip(RUST_MISSING)
    port = free_port()
    arguments = [str(tiny_model), "--port", str(port)]
    command = (str(binary), "serve")
    server = Server(tmp_path / "s", arguments, command, VLLM_RS_PYTHON=sys.executable)

    def answers(status: int) -> bool:
        assert not server.ended, server.log
        with suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{port}/health", timeout=30).status_code == status
        return False

    try:
        wait_for(lambda: answers(200), "the server to be ready")
        server.kill("engine")
        wait_for(lambda: answers(503), "the death to be noticed")
        wait_for(lambda: answers(200), "the engine to be back")
        body = {"prompt": "x", "max_tokens": 4}
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/completions", json=body, timeout=60)
        assert answer.json()["usage"]["completion_tokens"] == 4
    finally:
        server.close()
