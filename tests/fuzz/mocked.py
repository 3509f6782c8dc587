# SPDX-License-Identifier: Apache-2.0
"""The built frontend with the engine double behind it, on loopback."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

from tests.e2e.server import wait_for
from tests.parity.rust import cargo
from tools import build_rust


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def _running(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def frontend(binary: Path, model: str, double: Sequence[str], logs: Path) -> Iterator[str]:
    """The URL of a frontend that is ready; `double` are options of the engine double."""
    cargo("build", "--quiet", "-p", "vllm-mock-engine")
    target = Path(os.environ.get("CARGO_TARGET_DIR") or build_rust.ROOT / "rust" / "target")
    engine = target / "debug" / "vllm-mock-engine"
    port, rpc = str(_free_port()), str(_free_port())
    external = ["--data-parallel-address", "127.0.0.1", "--data-parallel-rpc-port", rpc]
    external += ["--data-parallel-size", "1", "--data-parallel-size-local", "0"]
    serve = [str(binary), "serve", model, "--host", "127.0.0.1", "--port", port, *external]
    mock = [str(engine), "--handshake", f"tcp://127.0.0.1:{rpc}", *double]
    log = logs / "frontend.log"
    with _running(serve, log) as process, _running(mock, logs / "engine.log"):
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: process.poll() is not None or _is_ready(url), "the frontend")
        assert process.poll() is None, log.read_text()
        yield url
        assert process.poll() is None, f"the frontend ended: {log.read_text()[-3000:]}"


def _is_ready(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/health", timeout=5).status_code == 200
    return False
