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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import random_models
from benchmarks.frontend import OURS
from benchmarks.table import Row, Samples
from tests.e2e.server import Server

LEAST = 2  # requests of a row, of which each client sends one


@dataclass(frozen=True)
class Scale:
    """How much work a machine is given; prompts and answers in tokens."""

    models: tuple[str, ...]
    concurrency: tuple[int, ...]
    length: int
    flags: tuple[str, ...]
    made_up: bool  # weights are made by the engine, not read from files


# Two cores make 20 to 200 tokens of dense-1b a second: the whole part takes some minutes.
ON_CPU = Scale(
    ("dense-1b", "moe-1b"),
    (1, 8, 32),
    16,
    ("--port", "0", "--max-model-len", "1024", "--max-num-seqs", "32"),
    made_up=False,
)
# The same on a GPU in two minutes.
ON_GPU = Scale(
    ("dense-8b", "moe-1b"),
    (1, 8, 32, 128),
    128,
    ("--port", "0", "--max-model-len", "4096", "--max-num-seqs", "128", "--load-format", "dummy"),
    made_up=True,
)


@contextlib.contextmanager
def _serving(model: Path, scale: Scale, rust: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="vllm-bench-") as folder:
        server = Server(Path(folder), [str(model), *scale.flags], VLLM_USE_RUST_FRONTEND=rust)
        try:
            yield server.wait_ready().url
        finally:
            server.close()


def _load(url: str, length: int, concurrency: int) -> dict[str, Any]:
    """The generator's report: each client sends a request, after one that does not count."""
    command = [str(OURS), "bench", "serve", "--base-url", url, "--endpoint", "chat"]
    command += ["--input-len", str(length), "--output-len", str(length)]
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


def _measure(model: Path, scale: Scale, rust: str, works: dict[str, int], samples: Samples) -> None:
    with _serving(model, scale, rust) as url:
        for work, concurrency in works.items():
            report = _load(url, scale.length, concurrency)
            samples.add(f"{work}: TTFT p50", report["ttft_ms"]["p50"])
            samples.add(f"{work}: throughput", report["tokens_per_s"])


def run(repeats: int, only: str = "") -> list[Row]:
    """Time to the first token (ms) and tokens per second, of the rows whose name contains `only`
    ("moe-1b, C=32").
    """
    scale = ON_GPU if torch.cuda.is_available() else ON_CPU
    ours, reference = Samples(), Samples()
    for name in scale.models:
        rows = {f"{name}, C={count}": count for count in scale.concurrency}
        works = {work: count for work, count in rows.items() if only in work}
        if not works:
            continue
        with _model(name, scale) as model:
            for _ in range(repeats):
                for rust, samples in (("1", ours), ("0", reference)):
                    _measure(model, scale, rust, works, samples)
    return [_row(name, ours[name], reference[name]) for name in ours]


@contextlib.contextmanager
def _model(name: str, scale: Scale) -> Iterator[Path]:
    if not scale.made_up:
        yield random_models.write(name)
        return
    with tempfile.TemporaryDirectory(prefix="vllm-bench-") as folder:
        yield random_models.write_without_weights(name, Path(folder) / name)


def _row(name: str, ours: list[float], reference: list[float]) -> Row:
    is_time = name.endswith("TTFT p50")
    unit, better = ("ms", "lower") if is_time else ("token/s", "higher")
    return Row(name, unit, ours, reference, better)
