# SPDX-License-Identifier: Apache-2.0
"""The whole server, with the real engine: our Rust frontend beside the reference frontend.

Owns the workload. Both sides are `vllm serve` on the same model with the same flags and differ in
VLLM_USE_RUST_FRONTEND alone; they run one after the other, repeat by repeat. Where the engine is
the bottleneck the two are equal, and that is a result too.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import random_models
from benchmarks.frontend import OURS
from benchmarks.table import Row, Samples
from tests.e2e.server import Server

MODELS = ("dense-1b", "moe-1b")
CONCURRENCY = (1, 8, 32)
# Two cores need half a second for a token of dense-1b and 2 s for 32: the whole part takes some
# ten minutes, one row of it at most four.
INPUT, OUTPUT = 16, 16
LEAST = 2  # requests of a row, of which each client sends one
FLAGS = ("--port", "0", "--max-model-len", "1024", "--max-num-seqs", "32")


@contextlib.contextmanager
def _serving(model: Path, rust: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="vllm-bench-") as folder:
        server = Server(Path(folder), [str(model), *FLAGS], VLLM_USE_RUST_FRONTEND=rust)
        try:
            yield server.wait_ready().url
        finally:
            server.close()


def _load(url: str, concurrency: int) -> dict[str, Any]:
    """The generator's report: each client sends a request, after one that does not count."""
    command = [str(OURS), "bench", "serve", "--base-url", url, "--endpoint", "chat"]
    command += ["--input-len", str(INPUT), "--output-len", str(OUTPUT)]
    command += ["--concurrency", str(concurrency)]
    command += ["--num-requests", str(max(LEAST, concurrency)), "--warmup", "1"]
    command += ["--timeout", "600", "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"error: {' '.join(command)}\n{done.stderr}")
    report = json.loads(done.stdout)
    if report["failed"]:
        raise SystemExit(f"error: {report['failed']} requests failed: {report['errors']}")
    return report


def _measure(model: Path, rust: str, works: dict[str, int], samples: Samples) -> None:
    with _serving(model, rust) as url:
        for work, concurrency in works.items():
            report = _load(url, concurrency)
            samples.add(f"{work}: TTFT p50", report["ttft_ms"]["p50"])
            samples.add(f"{work}: throughput", report["tokens_per_s"])


def run(repeats: int, only: str = "") -> list[Row]:
    """Time to the first token (ms) and tokens per second, of the rows whose name contains `only`
    ("moe-1b, C=32").
    """
    ours, reference = Samples(), Samples()
    for name in MODELS:
        rows = {f"{name}, C={count}": count for count in CONCURRENCY}
        works = {work: count for work, count in rows.items() if only in work}
        if not works:
            continue
        model = random_models.write(name)
        for _ in range(repeats):
            for rust, samples in (("1", ours), ("0", reference)):
                _measure(model, rust, works, samples)
    return [_row(name, ours[name], reference[name]) for name in ours]


def _row(name: str, ours: list[float], reference: list[float]) -> Row:
    is_time = name.endswith("TTFT p50")
    unit, better = ("ms", "lower") if is_time else ("token/s", "higher")
    return Row(name, unit, ours, reference, better)
