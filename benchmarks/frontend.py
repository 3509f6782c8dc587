# SPDX-License-Identifier: Apache-2.0
"""The frontend alone: ours and upstream's before the same engine double, under the same load.

Owns the workloads. Each repeat runs both frontends one after the other with the same commands; CPU
is user + system time of the frontend process alone. The model directory holds the tokenizer and the
template of the default model.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import model_dir
from benchmarks.table import Row, Samples
from tests.e2e import upstream

ROOT = Path(__file__).resolve().parent.parent
OURS = ROOT / "vllm" / "vllm-rs"
START_LIMIT_S = 60.0


@dataclass(frozen=True)
class Workload:
    """What the double pretends to be, and what the load generator asks for.

    `figures`: rows made of one run: (name, unit, path into the generator's JSON).
    """

    name: str
    mock: tuple[str, ...]
    load: tuple[str, ...]
    figures: tuple[tuple[str, str, tuple[str, ...]], ...]


PER_TOKEN = ("CPU", "us/token", ("server", "cpu_us_per_token"))
INSTRUCTIONS = ("user instructions", "/token", ("server", "instructions_per_token"))
FIRST = (
    ("TTFT p50", "ms", ("ttft_ms", "p50")),
    ("TTFT p99", "ms", ("ttft_ms", "p99")),
)
PER_REQUEST = ("CPU", "us/request", ("server", "cpu_us_per_request"))
CHAT = ("--endpoint", "chat", "--input-len", "32", "--output-len", "256")


def _load(base: tuple[str, ...], concurrency: int, requests: int) -> tuple[str, ...]:
    return (
        *base,
        *("--concurrency", str(concurrency)),
        *("--num-requests", str(requests), "--warmup", str(concurrency)),
    )


WORKLOADS = (
    Workload(
        "chat stream, 32 in / 256 out, C=64, step 5 ms",
        ("--step-ms", "5"),
        _load(CHAT, 64, 256),
        (PER_TOKEN, INSTRUCTIONS, *FIRST),
    ),
    Workload(
        "chat stream, 32 in / 256 out, C=64, engine never waits",
        (),
        _load(CHAT, 64, 512),
        (PER_TOKEN,),
    ),
    Workload(
        "chat stream, 32 in / 256 out, C=32, step 10 ms",
        ("--step-ms", "10"),
        _load(CHAT, 32, 96),
        (PER_TOKEN,),
    ),
    Workload(
        "completions stream, 32 in / 256 out, C=64, step 5 ms",
        ("--step-ms", "5"),
        _load(("--endpoint", "completions", *CHAT[2:]), 64, 256),
        (PER_TOKEN, INSTRUCTIONS),
    ),
    Workload(
        "completion not streamed, 128 out, C=64, engine never waits",
        (),
        _load(
            (
                "--endpoint",
                "completions",
                "--no-stream",
                "--input-len",
                "32",
                "--output-len",
                "128",
            ),
            64,
            1024,
        ),
        (PER_REQUEST,),
    ),
    Workload(
        "chat, 8k-word prompts, all the same, 16 out, C=8",
        (),
        _load(
            (
                "--endpoint",
                "chat",
                "--input-len",
                "8000",
                "--output-len",
                "16",
                "--prompts",
                "same",
            ),
            8,
            128,
        ),
        (PER_REQUEST,),
    ),
    Workload(
        "chat, 8k-word prompts, all distinct, 16 out, C=8",
        (),
        _load(("--endpoint", "chat", "--input-len", "8000", "--output-len", "16"), 8, 128),
        (PER_REQUEST, *FIRST),
    ),
    Workload(
        "chat stream with top-5 log probabilities, C=32, step 5 ms",
        ("--step-ms", "5"),
        _load((*CHAT, "--logprobs", "5"), 32, 64),
        (PER_TOKEN,),
    ),
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def _running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def frontend(
    binary: Path, model: Path, mock: tuple[str, ...], logs: Path
) -> Iterator[tuple[str, int, float]]:
    """A frontend with the engine double behind it: its URL, process id and seconds to ready."""
    port, rpc = free_port(), free_port()
    serve = [
        str(binary), "serve", str(model), "--host", "127.0.0.1", "--port", str(port),
        "--data-parallel-address", "127.0.0.1", "--data-parallel-rpc-port", str(rpc),
        "--data-parallel-size", "1", "--data-parallel-size-local", "0",
    ]  # fmt: skip
    double = [str(_mock_engine()), "--handshake", f"tcp://127.0.0.1:{rpc}", *mock]
    start = time.perf_counter()
    with (
        _running(serve, logs / f"{binary.name}.log") as server,
        _running(double, logs / "mock-engine.log"),
    ):
        url = f"http://127.0.0.1:{port}"
        _wait_ready(url, server, logs / f"{binary.name}.log")
        yield url, server.pid, time.perf_counter() - start


def _mock_engine() -> Path:
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "rust" / "target")
    return target / "release" / "vllm-mock-engine"


def _wait_ready(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise SystemExit(f"error: the frontend ended, see {log}:\n{log.read_text()[-2000:]}")
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
            return
        time.sleep(0.005)
    raise SystemExit(f"error: {url} was not ready within {START_LIMIT_S:.0f} s, see {log}")


def measure(url: str, pid: int, load: tuple[str, ...], perf: bool) -> dict[str, Any]:
    """The load generator's report."""
    command = [str(OURS), "bench", "serve", "--base-url", url, "--pid", str(pid), *load]
    command += ["--json", "-", *(["--perf"] if perf else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"error: {' '.join(command)}\n{done.stderr}")
    report = json.loads(done.stdout)
    if report["failed"]:
        raise SystemExit(f"error: {report['failed']} requests failed: {report['errors']}")
    return report


def _figure(report: Any, path: tuple[str, ...]) -> float | None:
    for key in path:
        report = report[key]
    return report


def counts_instructions() -> bool:
    """Whether `perf` is here and the CPU counts for it."""
    command = ["perf", "stat", "-x,", "-e", "instructions:u", "true"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0 and "not" not in done.stderr


def run(repeats: int, logs: Path, only: str = "") -> list[Row]:
    """All rows whose name contains `only`; lower is better in each."""
    model, peer = model_dir.write(), upstream.binary()
    perf = counts_instructions()
    sides: list[tuple[Path, Samples]] = [(OURS, Samples()), (peer, Samples())]
    units: dict[str, str] = {}
    for workload in WORKLOADS:
        if only not in workload.name:
            continue
        for _ in range(repeats):
            for binary, samples in sides:
                with frontend(binary, model, workload.mock, logs) as (url, pid, ready_s):
                    report = measure(url, pid, workload.load, perf)
                samples.add("start to ready", ready_s * 1e3)
                for name, unit, path in workload.figures:
                    if (value := _figure(report, path)) is not None:
                        units[f"{workload.name}: {name}"] = unit
                        samples.add(f"{workload.name}: {name}", value)
    units["start to ready"] = "ms"
    ours, theirs = (samples for _, samples in sides)
    return [Row(name, units[name], ours[name], theirs.get(name), "lower") for name in ours]
