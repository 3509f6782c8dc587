# SPDX-License-Identifier: Apache-2.0
"""The frontend alone: ours and upstream's before the same engine double, under the same load.

Owns the workloads. Each repeat runs both frontends one after the other with the same commands; CPU
is user + system time of the frontend process alone. The model directory holds the tokenizer and the
template of the default model.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import model_dir
from benchmarks.table import Goal, Row, Samples
from tests.e2e import loopback, upstream

ROOT = Path(__file__).resolve().parent.parent
OURS = ROOT / "vllm" / "vllm-rs"


@dataclass(frozen=True)
class Figure:
    """One row made of a run: `path` leads to it in the generator's JSON, or in `memory`."""

    name: str
    unit: str
    path: tuple[str, ...]
    goal: Goal | None = None


@dataclass(frozen=True)
class Workload:
    """What the double pretends to be, what the load generator asks for, and the rows made of it.

    `watched`: the frontend's memory is looked at while the load runs.
    """

    name: str
    mock: tuple[str, ...]
    load: tuple[str, ...]
    figures: tuple[Figure, ...]
    watched: bool = False


def per_token(must: float, aim: float) -> Figure:
    return Figure("CPU", "us/token", ("server", "cpu_us_per_token"), Goal(must, aim))


def per_request(must: float, aim: float) -> Figure:
    return Figure("CPU", "us/request", ("server", "cpu_us_per_request"), Goal(must, aim))


def first_token(percentile: str, goal: Goal | None) -> Figure:
    return Figure(f"TTFT {percentile}", "ms", ("ttft_ms", percentile), goal)


READY = Figure("start to ready", "ms", (), Goal(0.5, 0.3))
IDLE = Figure("resident memory when ready", "MB", (), Goal(0.5, 0.3))
PER_STREAM = Figure("resident memory", "kB/stream", ("memory", "kb_per_stream"), Goal(0.35, 0.25))
STREAMS = 2000


def _load(
    options: str, concurrency: int, requests: int, warm_up: int | None = None
) -> tuple[str, ...]:
    warm_up = concurrency if warm_up is None else warm_up
    counts = f"--concurrency {concurrency} --num-requests {requests} --warmup {warm_up}"
    return tuple(f"{options} {counts}".split())


CHAT = "--endpoint chat --input-len 32 --output-len 256"
COMPLETIONS = "--endpoint completions --input-len 32"
LONG = "--endpoint chat --output-len 16 --input-len"
STEP_5, STEP_10 = ("--step-ms", "5"), ("--step-ms", "10")

WORKLOADS = (
    Workload(
        "chat stream, 32 in / 256 out, C=64, step 5 ms",
        STEP_5,
        _load(CHAT, 64, 256),
        (
            per_token(0.45, 0.29),
            first_token("p50", Goal(1.0)),
            first_token("p99", Goal(1.0, 0.5)),
        ),
    ),
    Workload(
        "chat stream, 32 in / 256 out, C=64, engine never waits",
        (),
        _load(CHAT, 64, 512),
        (per_token(0.25, 0.09),),
    ),
    Workload(
        "chat stream, 32 in / 256 out, C=256, step 10 ms",
        STEP_10,
        _load(CHAT, 256, 512),
        (per_token(0.40, 0.25),),
    ),
    Workload(
        "chat stream, 32 in / 256 out, C=32, step 10 ms",
        STEP_10,
        _load(CHAT, 32, 96),
        (per_token(0.40, 0.22),),
    ),
    Workload(
        "completions stream, 32 in / 256 out, C=64, step 5 ms",
        STEP_5,
        _load(f"{COMPLETIONS} --output-len 256", 64, 256),
        (per_token(0.45, 0.29),),
    ),
    Workload(
        "completion not streamed, 32 in / 128 out, C=64, engine never waits",
        (),
        _load(f"{COMPLETIONS} --output-len 128 --no-stream", 64, 1024),
        (per_request(0.17, 0.09),),
    ),
    Workload(
        "chat, 8k-word prompts, all the same, 16 out, C=8",
        (),
        _load(f"{LONG} 8000 --prompts same", 8, 128),
        (per_request(0.10, 0.04),),
    ),
    Workload(
        "chat, 8k-word prompts, all distinct, 16 out, C=8",
        (),
        _load(f"{LONG} 8000", 8, 128),
        (per_request(0.13, 0.07), first_token("p50", None), first_token("p99", None)),
    ),
    Workload(
        "chat, 8k made-up words, nearly each of them new, 16 out, C=8",
        (),
        _load(f"{LONG} 8000 --prompts unseen", 8, 64),
        (Figure("CPU", "us/request", ("server", "cpu_us_per_request")),),
    ),
    Workload(
        "chat, 44k-word prompts, all the same, 16 out, C=4",
        (),
        _load(f"{LONG} 44000 --prompts same", 4, 64),
        (per_request(0.08, 0.02),),
    ),
    Workload(
        "chat, 44k-word prompts, all distinct, 16 out, C=4",
        (),
        _load(f"{LONG} 44000", 4, 64),
        (
            per_request(0.12, 0.06),
            first_token("p50", Goal(0.3, 0.12)),
            first_token("p99", Goal(0.3, 0.12)),
        ),
    ),
    Workload(
        "chat, 24 growing turns of 128 words each way, 16 out, C=16",
        (),
        _load(f"{LONG} 128 --turns 24", 16, 768),
        (per_request(0.20, 0.10),),
    ),
    Workload(
        "chat stream with top-5 log probabilities, 32 in / 256 out, C=32, step 5 ms",
        STEP_5,
        _load(f"{CHAT} --logprobs 5", 32, 64),
        (per_token(0.40, 0.25),),
    ),
    Workload(
        f"chat, {STREAMS:,} idle streams, one token a second",
        ("--step-ms", "1000", "--max-batch", str(STREAMS)),
        _load("--endpoint chat --input-len 32 --output-len 12", STREAMS, STREAMS, 0),
        (PER_STREAM,),
        watched=True,
    ),
)


def measure(url: str, pid: int, load: tuple[str, ...], watched: bool = False) -> dict[str, Any]:
    """The load generator's report; with `watched` also what a stream adds to resident memory."""
    command = [str(OURS), "bench", "serve", "--base-url", url, "--pid", str(pid), *load]
    before = resident_kb(pid)
    with subprocess.Popen(
        [*command, "--json", "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as done:
        seen = _watch(pid, done) if watched else []
        out, problem = done.communicate()
    if done.returncode:
        raise SystemExit(f"error: {' '.join(command)}\n{problem}")
    report = json.loads(out)
    if report["failed"]:
        raise SystemExit(f"error: {report['failed']} requests failed: {report['errors']}")
    if seen:
        # All streams are open from the first second or two on, and until the last one or two.
        middle = statistics.median(seen[len(seen) // 4 : -len(seen) // 4])
        report["memory"] = {"kb_per_stream": (middle - before) / report["concurrency"]}
    return report


def _watch(pid: int, load: subprocess.Popen[str]) -> list[int]:
    """Resident memory in kB, four times a second while the load runs."""
    seen = []
    while load.poll() is None:
        seen.append(resident_kb(pid))
        time.sleep(0.25)
    return seen


def resident_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def _figure(report: Any, path: tuple[str, ...]) -> float:
    for key in path:
        report = report[key]
    return report


def run(repeats: int, logs: Path, only: str = "") -> list[Row]:
    """All rows whose name contains `only`; lower is better in each."""
    model, peer = model_dir.write(), upstream.binary()
    sides: list[tuple[Path, Samples]] = [(OURS, Samples()), (peer, Samples())]
    figures: dict[str, Figure] = {figure.name: figure for figure in (READY, IDLE)}
    for workload in WORKLOADS:
        if only not in workload.name:
            continue
        for figure in workload.figures:
            figures[f"{workload.name}: {figure.name}"] = figure
        for _ in range(repeats):
            for binary, samples in sides:
                _one(workload, binary, model, logs, samples)
    ours, theirs = (samples for _, samples in sides)
    return [
        Row(name, figure.unit, ours[name], theirs.get(name), "lower", figure.goal)
        for name, figure in figures.items()
        if name in ours
    ]


def _one(workload: Workload, binary: Path, model: Path, logs: Path, samples: Samples) -> None:
    with loopback.before_a_double(binary, model, workload.mock, logs) as (url, server, ready_s):
        samples.add(READY.name, ready_s * 1e3)
        samples.add(IDLE.name, resident_kb(server.pid) / 1e3)
        report = measure(url, server.pid, workload.load, workload.watched)
    for figure in workload.figures:
        samples.add(f"{workload.name}: {figure.name}", _figure(report, figure.path))
