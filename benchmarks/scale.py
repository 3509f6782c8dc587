# SPDX-License-Identifier: Apache-2.0
"""The frontend at scale: 64 engines behind it, up to 10,000 open streams, a flood that is refused.

Owns the workloads. Engines are doubles in one process; CPU is user + system time of the frontend
process alone. The peer's column is the same frontend at 64 streams, measured in the same run.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import model_dir
from benchmarks.frontend import measure
from benchmarks.table import Row, Samples
from tests.e2e.crowd import Crowd, http_request
from tests.e2e.doubles import Deployment, deployment, raise_descriptor_limit

ENGINES = 64
FEW, MANY, OPEN = 64, 2000, 10_000
AT_ONCE, REFUSED = (8, 64), 3200  # connections that flood, requests of each flood
RUNNING = 500


def run(repeats: int) -> list[Row]:
    """Cost per token at 64 and 2,000 streams, open streams, and how fast a flood is refused."""
    raise_descriptor_limit()
    model = model_dir.write()
    few, many, rest = Samples(), Samples(), Samples()
    for _ in range(repeats):
        with engines(model, step_ms=20) as running:
            for concurrency, samples in ((FEW, few), (MANY, many)):
                samples.add("CPU", cost(running, concurrency, 128, 4 * concurrency))
        with engines(model, step_ms=1000) as running:
            rest.add("CPU", cost(running, OPEN, 8, OPEN))
            rest.add("peak memory", running.peak_memory() / 1e6)
        for name, value in refusals(model).items():
            rest.add(name, value)
    across = f"{MANY:,} streams over {ENGINES} engines"
    return [
        Row(f"chat stream, 128 out, {across}", "us/token", many["CPU"], few["CPU"], "lower"),
        Row(
            f"{OPEN:,} open streams, 8 out, 1 token/s each",
            "us/token",
            rest["CPU"],
            few["CPU"],
            "lower",
        ),
        Row(f"{OPEN:,} open streams, peak memory", "MB", rest["peak memory"], None, "lower"),
        *(
            Row(f"429 under a flood by {at_once} connections, {cut}", "ms", values, None, "lower")
            for at_once in AT_ONCE
            for cut in ("p50", "p99")
            for values in (rest[f"{at_once} {cut}"],)
        ),
    ]


@contextlib.contextmanager
def engines(model: Path, step_ms: int) -> Iterator[Deployment]:
    # Doubles that share a process on a busy machine are slow, not dead.
    with deployment(model, ENGINES, engine_silence_timeout=60) as running:
        running.double(0, ENGINES, "--max-batch", "1000", "--step-ms", str(step_ms))
        running.wait_healthy()
        yield running


def cost(running: Deployment, concurrency: int, tokens: int, requests: int) -> float:
    """Microseconds of the frontend's CPU per token; a request that fails ends the run."""
    load = (
        *("--endpoint", "chat", "--input-len", "32", "--output-len", str(tokens)),
        *("--concurrency", str(concurrency), "--num-requests", str(requests)),
        *("--warmup", str(min(concurrency, MANY))),
    )
    url = f"http://127.0.0.1:{running.port}"
    report: dict[str, Any] = measure(url, running.process.pid, load)
    return float(report["server"]["cpu_us_per_token"])


def refusals(model: Path) -> dict[str, float]:
    """Milliseconds from request to 429 while 500 streams run and nothing more may wait.

    As a client in one Python thread sees it: each connection sends its next request at once, so
    with many of them most of the time is spent in the queue of this client.
    """
    found: dict[str, float] = {}
    with deployment(model, 1, max_num_queued_reqs=0) as running:
        engine = running.double(0, 1, "--max-batch", str(RUNNING), "--step-ms", "1000")
        running.wait_healthy()
        with Crowd(running.port, RUNNING) as crowd:
            crowd.wait_started()
            for at_once in AT_ONCE:
                cuts = statistics.quantiles(asyncio.run(_flood(running.port, at_once)), n=100)
                found |= {f"{at_once} p50": cuts[49], f"{at_once} p99": cuts[98]}
            engine.finish()
            crowd.wait_ended()
    return found


async def _flood(port: int, at_once: int) -> list[float]:
    shares = [_ask(port, REFUSED // at_once) for _ in range(at_once)]
    return [spent for share in await asyncio.gather(*shares) for spent in share]


async def _ask(port: int, count: int) -> list[float]:
    """One connection, one request after the other; milliseconds until each head is there."""
    request = http_request({"prompt": "word " * 2000, "max_tokens": 1}, keep_alive=True)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    spent = []
    for _ in range(count):
        start = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        spent.append(1e3 * (time.perf_counter() - start))
        assert b" 429 " in head.split(b"\r\n", 1)[0], head
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
        await reader.readexactly(int(fields[b"content-length"]))
    writer.close()
    return spent
