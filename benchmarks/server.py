# SPDX-License-Identifier: Apache-2.0
"""Whole servers over HTTP under our load generator: `vllm serve` and llama.cpp's `llama-server`.

Owns the workloads: many streams at once, with a context of about 128 and 1,024 tokens. LLAMA_SERVER
holds the peer's command; without it the rows stand alone. The servers run one after the other,
repeat by repeat, since both want all CPUs.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from benchmarks.frontend import ROOT, free_port, measure
from benchmarks.table import Row, Samples
from vllm.config.model_source import resolve

START_LIMIT_S = 120.0
STREAMS = (8, 32)
OUTPUT = 64
CONTEXTS = {128: 64, 1024: 960}  # context at the end: words of prompt (about a token each)
SLOTS, SLOT_TOKENS = 32, 1280


def ours(model: Path, port: int) -> list[str]:
    return [sys.executable, "-m", "vllm.cli", "serve", str(model), "--port", str(port)]


def peer(model: Path, port: int) -> list[str]:
    """Every stream has a slot, and no answer comes from an earlier prompt's cache."""
    return [
        *shlex.split(os.environ["LLAMA_SERVER"]), "-m", str(model), "--port", str(port),
        "--host", "127.0.0.1", "-np", str(SLOTS), "-c", str(SLOTS * SLOT_TOKENS),
        "-t", str(len(os.sched_getaffinity(0))), "--no-cache-prompt",
    ]  # fmt: skip


@contextlib.contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[tuple[str, int]]:
    """A server that answers /health: its URL and process id."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=ROOT
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_ready(url, process, log)
        yield url, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()


def wait_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"error: the server ended, see {log}:\n{log.read_text()[-2000:]}")
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
            return
        time.sleep(0.05)
    raise SystemExit(f"error: {url} was not ready within {START_LIMIT_S:.0f} s, see {log}")


def rates(url: str, pid: int) -> dict[str, float]:
    """Tokens per second over all streams, from the first request to the last answer."""
    found = {}
    for context, words in CONTEXTS.items():
        for streams in STREAMS:
            load = (
                "--endpoint", "completions", "--concurrency", str(streams),
                "--num-requests", str(2 * streams), "--warmup", str(streams),
                "--input-len", str(words), "--output-len", str(OUTPUT),
            )  # fmt: skip
            report = measure(url, pid, load)
            found[f"{streams} streams, context {context}"] = report["tokens_per_s"]
    return found


def run(model: str, repeats: int, logs: Path) -> list[Row]:
    """All rows, in output tokens per second; prompts are computed within that time, too."""
    path = resolve(model).path
    sides = [(ours, Samples()), *([(peer, Samples())] if os.environ.get("LLAMA_SERVER") else [])]
    for _ in range(repeats):
        for command, samples in sides:
            port = free_port()
            with running(command(path, port), port, logs / f"{command.__name__}.log") as server:
                samples.add_all(rates(*server))
    mine, theirs = sides[0][1], sides[-1][1] if len(sides) > 1 else Samples()
    return [Row(name, "token/s", mine[name], theirs.get(name), "higher") for name in mine]
