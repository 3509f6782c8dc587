# SPDX-License-Identifier: Apache-2.0
"""Whoever reads the log, slowly or not at all, holds nothing up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.loopback import free_port
from tests.e2e.server import ROOT, VLLM_SERVE, wait_for
from vllm.errors import ExitCode

EXIT_S = 60.0


@pytest.fixture
def stalled() -> Iterator[int]:
    """The writing end of a pipe that is full and that nobody reads."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, bytes(4096))
    except BlockingIOError:
        os.set_blocking(writing, True)
    yield writing
    os.close(writing)
    os.close(reading)


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def serve(
    model: Path, port: int, frontend: dict[str, str], **streams: int
) -> subprocess.Popen[bytes]:
    closed = ""
    if not streams:
        closed = "0<&- 1>&- 2>&-"
    script = f'exec "$@" {closed}'
    command = [*VLLM_SERVE, str(model), "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RUST_LOG": "trace", **frontend}
    environment["VLLM_LOGGING_LEVEL"] = "debug"
    return subprocess.Popen(["sh", "-c", script, "sh", *command], env=environment, **streams)


@pytest.mark.parametrize("kind", ["stalled", "closed"])
def test_the_log_can_stall_or_be_closed(
    tiny_model: Path, frontend: dict[str, str], stalled: int, kind: str
) -> None:
    port = free_port()
    streams = {"stdout": stalled, "stderr": stalled} if kind == "stalled" else {}
    process = serve(tiny_model, port, frontend, **streams)
    try:
        wait_for(lambda: process.poll() is not None or answers(port), "the server to be ready")
        assert process.returncode is None
        body = {"model": str(tiny_model), "prompt": "a", "max_tokens": 4}
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/completions", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        process.send_signal(signal.SIGTERM)
        assert process.wait(EXIT_S) == ExitCode.OK
    finally:
        process.kill()
        process.wait()


def test_a_refusal_with_a_stalled_log_ends_on_its_own(stalled: int) -> None:
    command = [sys.executable, "-m", "vllm.cli", "serve", "/nowhere/model"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "VLLM_USE_RUST_FRONTEND": "0"}
    done = subprocess.run(command, stderr=stalled, env=environment, timeout=EXIT_S, check=False)
    assert done.returncode == ExitCode.MODEL
