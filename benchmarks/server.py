# SPDX-License-Identifier: Apache-2.0
"""Whole servers over HTTP under our load generator: `vllm serve` and llama.cpp's `llama-server`.

Owns the workloads: many streams at once, with a context of about 128 and 1,024 tokens. LLAMA_SERVER
holds the peer's command; without it the rows stand alone. The servers run one after the other,
repeat by repeat, since both want all CPUs.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from benchmarks.frontend import measure
from benchmarks.table import Row, Samples
from tests.e2e.loopback import free_port, running, wait_ready
from vllm.config.model_source import resolve

GRACE_S = 20.0  # for the processes below it to end
STREAMS = (8, 32)
OUTPUT = 64
CONTEXTS = {128: 64, 1024: 960}  # context at the end: words of prompt (about a token each)
TIMEOUT_S = 600  # a peer computes 32 prompts of 960 tokens before the last stream's first token
SLOTS, SLOT_TOKENS = 32, 1280


def ours(model: Path, port: int) -> list[str]:
    """No answer comes from an earlier prompt's cache."""
    command = [sys.executable, "-m", "vllm.cli", "serve", str(model), "--port", str(port)]
    return [*command, "--no-enable-prefix-caching"]


def peer(model: Path, port: int) -> list[str]:
    """The same, and every stream has a slot."""
    return [
        *shlex.split(os.environ["LLAMA_SERVER"]), "-m", str(model), "--port", str(port),
        "--host", "127.0.0.1", "-np", str(SLOTS), "-c", str(SLOTS * SLOT_TOKENS),
        "-t", str(len(os.sched_getaffinity(0))), "--no-cache-prompt",
    ]  # fmt: skip


def workloads(only: str) -> dict[str, tuple[str, ...]]:
    """The load generator's options by row, of the rows whose name contains `only`.

    A connection carries one request: `llama-server` closes it after a streamed answer and does not
    say so beforehand.
    """
    found = {
        f"{streams} streams, context {context}": (
            "--endpoint", "completions", "--concurrency", str(streams),
            "--num-requests", str(streams),
            "--input-len", str(words), "--output-len", str(OUTPUT), "--timeout", str(TIMEOUT_S),
        )
        for context, words in CONTEXTS.items() for streams in STREAMS
    }  # fmt: skip
    return {name: load for name, load in found.items() if only in name}


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its children so far."""
    text = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    own = (int(text[11]) + int(text[12])) / os.sysconf("SC_CLK_TCK")
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + sum(cpu_seconds(int(child)) for child in children)


def figures(url: str, pid: int, loads: dict[str, tuple[str, ...]]) -> dict[str, float]:
    """Tokens per second over all streams, from the first request to the last answer, and the whole
    server's CPU time per token.
    """
    found = {}
    measure(url, pid, ("--endpoint", "completions", "--concurrency", "2", "--num-requests", "2"))
    for name, load in loads.items():
        before = cpu_seconds(pid)
        report = measure(url, pid, load)
        found[name] = report["tokens_per_s"]
        found[f"{name}: CPU"] = 1000 * (cpu_seconds(pid) - before) / report["completion_tokens"]
    return found


def run(model: str, repeats: int, logs: Path, only: str = "") -> list[Row]:
    """Rows per output token; prompts are computed within that time, too."""
    loads = workloads(only)
    path = resolve(model).path
    sides = [(ours, Samples()), *([(peer, Samples())] if os.environ.get("LLAMA_SERVER") else [])]
    for _ in range(repeats):
        for command, samples in sides:
            port = free_port()
            url, log = f"http://127.0.0.1:{port}", logs / f"{command.__name__}.log"
            with running(command(path, port), log, grace_s=GRACE_S) as server:
                wait_ready(url, server, log)
                samples.add_all(figures(url, server.pid, loads))
    mine, theirs = sides[0][1], sides[-1][1] if len(sides) > 1 else Samples()
    return [
        Row(name, "ms/token", mine[name], theirs.get(name), "lower")
        if name.endswith(": CPU")
        else Row(name, "token/s", mine[name], theirs.get(name), "higher")
        for name in mine
    ]
