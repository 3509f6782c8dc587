# SPDX-License-Identifier: Apache-2.0
"""Servers on loopback for tests and benchmarks: started, waited for, ended.

Owns the processes and the ports. Must not know what is asked of them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
START_LIMIT_S = 120.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    command: Sequence[str],
    log: Path,
    *,
    fds: Collection[int] = (),
    environ: Mapping[str, str] | None = None,
    grace_s: float = 0.0,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the repository's root that writes to `log` and has `fds`.

    Killed in the end, `grace_s` seconds after it was asked to end.
    """
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            pass_fds=fds,
            env={**os.environ, **(environ or {})},
            cwd=ROOT,
        )
    try:
        yield process
    finally:
        if grace_s:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace_s)
        process.kill()
        process.wait()


def wait_ready(
    url: str, process: subprocess.Popen[bytes], log: Path, limit_s: float = START_LIMIT_S
) -> None:
    """Return when /health answers 200.

    Raises:
        RuntimeError: the process ended, or `limit_s` seconds passed.
    """
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended, see {log}:\n{log.read_text()[-2000:]}")
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
            return
        time.sleep(0.005)
    raise RuntimeError(f"{url} was not ready within {limit_s:.0f} s, see {log}")


def double_path() -> Path:
    """Where `cargo build --release -p vllm-mock-engine` puts the engine double."""
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "rust" / "target")
    return target / "release" / "vllm-mock-engine"


@contextlib.contextmanager
def before_a_double(
    binary: Path,
    model: str | Path,
    double: Sequence[str],
    logs: Path,
    *,
    flags: Sequence[str] = (),
    wrapper: Sequence[str] = (),
    limit_s: float = START_LIMIT_S,
) -> Iterator[tuple[str, subprocess.Popen[bytes], float]]:
    """A frontend with an engine double of its own: its URL, its process and seconds to ready.

    `double` are options of the double, `flags` of the frontend; `wrapper` is a command that runs
    the frontend, such as valgrind.
    """
    port, rpc = free_port(), free_port()
    serve = [
        *wrapper, str(binary), "serve", str(model), "--host", "127.0.0.1", "--port", str(port),
        "--data-parallel-address", "127.0.0.1", "--data-parallel-rpc-port", str(rpc),
        "--data-parallel-size", "1", "--data-parallel-size-local", "0", *flags,
    ]  # fmt: skip
    engine = [str(double_path()), "--handshake", f"tcp://127.0.0.1:{rpc}", *double]
    log = logs / f"{binary.name}.log"
    start = time.perf_counter()
    with running(serve, log) as process, running(engine, logs / "mock-engine.log"):
        url = f"http://127.0.0.1:{port}"
        wait_ready(url, process, log, limit_s)
        yield url, process, time.perf_counter() - start
