# SPDX-License-Identifier: Apache-2.0
"""Clients that do not read, come all at once or want what they may not have; signals; bad settings.

Each test has a frontend of its own.
"""

from __future__ import annotations

import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.crowd import Crowd, http_request
from tests.e2e.doubles import deployment, raise_descriptor_limit
from tests.e2e.server import PATIENCE_S, wait_for

OTHERS = 500
STREAM_LIMIT = 8 << 20  # bytes that may wait for one reader, see `TransportConfig`
SLOW = 5
KEY = "a-key-that-nobody-may-see"


@pytest.fixture(autouse=True)
def descriptors() -> None:
    raise_descriptor_limit()


def test_clients_that_do_not_read_are_ended_and_hold_bounded_memory(tiny_model: Path) -> None:
    with deployment(tiny_model, 2) as running:
        well = running.double(0, 1, "--max-batch", "1000", "--step-ms", "20")
        fast = running.double(1, 1, "--max-batch", "1000")
        running.wait_healthy()
        with Crowd(running.port, OTHERS, 0) as crowd:
            crowd.wait_started()
            well.finish()
            crowd.check()
        warm = running.memory()
        with Crowd(running.port, OTHERS, 0) as crowd:
            crowd.wait_started()
            readers = [_stalled(running.port) for _ in range(SLOW)]
            wait_for(lambda: fast.counters()["aborted"] == SLOW, "the engine to be told")
            # A list that grows has room for twice what is in it, and is there twice while it moves.
            assert running.peak_memory() < warm + 3 * SLOW * STREAM_LIMIT
            well.finish()
            crowd.check()
        for reader in readers:
            assert b"slow_reader" in _rest(reader)
        assert running.log.count("panic") == 0
        wait_for(lambda: running.metric("num_requests_running") == 0, "the gauge at 0")
        running.wait_memory(1.2 * warm, "the memory of an idle frontend")


def _stalled(port: int) -> socket.socket:
    """A client that asks for much and does not read."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(PATIENCE_S)
    sock.connect(("127.0.0.1", port))
    body = {
        "prompt": [1], "max_tokens": 900_000, "stream": True, "ignore_eos": True, "logprobs": 5,
    }  # fmt: skip
    sock.sendall(http_request(body, {"X-data-parallel-rank": "1"}))
    return sock


def _rest(sock: socket.socket) -> bytes:
    """The last of what comes until the end."""
    last = b""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    with sock:
        while data := sock.recv(1 << 20):
            last = (last + data)[-4096:]
    return last


def test_a_flood_is_refused_before_any_work_and_harms_nobody(tiny_model: Path) -> None:
    limits = {"max_num_queued_reqs": 0}
    with deployment(tiny_model, 1, **limits) as running:
        well = running.double(0, 1, "--max-batch", str(OTHERS), "--step-ms", "20")
        running.wait_healthy()
        with Crowd(running.port, OTHERS) as crowd:
            crowd.wait_started()
            body = {"prompt": "x" * 10_000, "max_tokens": 1}
            with ThreadPoolExecutor(16) as pool:
                replies = list(
                    pool.map(lambda _: running.post("/v1/completions", body), range(1000))
                )
            for reply in replies:
                assert reply.status_code == 429, reply.text
                assert reply.headers["Retry-After"] == "1"
            assert well.counters()["added"] == OTHERS
            well.finish()
            crowd.check()
        reply = running.post("/v1/completions", {"prompt": [1], "max_tokens": 1})
        assert reply.status_code == 200


def test_sigterm_lets_what_runs_finish_and_a_second_one_does_not(tiny_model: Path) -> None:
    for signals in (1, 2):
        with deployment(tiny_model, 1, shutdown_timeout=PATIENCE_S) as running:
            well = running.double(0, 1, "--max-batch", "1000", "--step-ms", "20")
            running.wait_healthy()
            with Crowd(running.port, OTHERS) as crowd:
                crowd.wait_started()
                running.process.send_signal(signal.SIGTERM)
                wait_for(lambda: "stopping on SIGTERM" in running.log, "the drain")
                if signals == 2:
                    running.process.send_signal(signal.SIGTERM)
                    assert running.process.wait(PATIENCE_S) == 128 + signal.SIGTERM
                    continue
                assert crowd.running == OTHERS
                well.finish()
                crowd.check()
            assert running.process.wait(PATIENCE_S) == 0
            assert "every request was answered" in running.log


def test_the_grace_of_a_drain_turns_ready_off_and_keeps_accepting(tiny_model: Path) -> None:
    with deployment(tiny_model, 1, drain_grace=3600, shutdown_timeout=3600) as running:
        running.double(0, 1)
        running.wait_healthy()
        assert running.status("/ready") == 200
        running.process.send_signal(signal.SIGTERM)
        wait_for(lambda: running.status("/ready") == 503, "ready to be off")
        # A new connection each: none of these was open before.
        assert running.fresh_status("/ready") == 503
        assert running.fresh_status("/live") == 200
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(PATIENCE_S) == 128 + signal.SIGTERM


def test_an_idle_frontend_ends_at_once(tiny_model: Path) -> None:
    with deployment(tiny_model, 1, shutdown_timeout=3600) as running:
        running.double(0, 1)
        running.wait_healthy()
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(PATIENCE_S) == 0


def test_no_route_but_the_health_family_and_the_page_answers_without_a_key_and_none_shows_it(
    tiny_model: Path,
) -> None:
    environ = {"VLLM_SERVER_DEV_MODE": "1", "RUST_LOG": "debug"}
    settings = {"api_key": [KEY], "enable_scale_out": True}
    with deployment(tiny_model, 1, environ, **settings) as running:
        running.double(0, 1)
        running.wait_healthy()
        paths = running.get("/openapi.json", headers=_bearer(KEY)).json()["paths"]
        assert len(paths) > 20
        open_paths = set()
        for path, methods in paths.items():
            for method in methods:
                for headers in ({}, _bearer("another")):
                    reply = running.http.request(method, path.strip("{}"), headers=headers)
                    if reply.status_code != 401:
                        open_paths.add(path)
                    assert KEY not in reply.text
        # The page at / is the same for everybody; what it asks for needs the key.
        assert open_paths == {"/", "/health", "/live", "/ready", "/ping", "/version"}
        body = {"prompt": [1], "max_tokens": 1}
        reply = running.post("/v1/completions", body, headers=_bearer(KEY))
        assert reply.status_code == 200
        for name in ("cmdline", "environ"):
            assert KEY.encode() not in Path(f"/proc/{running.process.pid}/{name}").read_bytes()
        assert KEY not in running.log


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize("value", ["%%%=,[", "vllm=loud", "=" * 10_000, "\x7f"])
def test_a_log_filter_that_makes_no_sense_costs_a_line(tiny_model: Path, value: str) -> None:
    with deployment(tiny_model, 1, {"RUST_LOG": value}) as running:
        running.double(0, 1)
        running.wait_healthy()
        assert running.log.count("panicked") == 0
        assert "RUST_LOG" in running.log
