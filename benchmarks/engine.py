# SPDX-License-Identifier: Apache-2.0
"""The engine in process: decode at B = 1, 8 and 32, and prefill of 512 tokens.

Owns the workload; the schedule, the model and the kernels are the real ones. Where LLAMA_BENCH
holds the command of llama.cpp's `llama-bench`, its figures for the same file and threads are taken
between ours, run by run, so that a busy neighbour hits both.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.requests import make_requests
from benchmarks.step_path import step_overhead, step_parts
from benchmarks.table import Row, Samples
from vllm.config.engine import EngineConfig
from vllm.config.model_source import resolve
from vllm.engine.core import EngineCore

BATCHES = (1, 8, 32)
PROMPT, OUTPUT, PREFILL = 64, 64, 512


def decode_rate(core: EngineCore, batch: int) -> float:
    """Tokens per second of all requests together, prompts already computed."""
    for request in make_requests(batch, PROMPT, OUTPUT + 1):
        core.add_request(request)
    begun = 0
    while begun < batch:
        begun += sum(len(output.new_token_ids) for output in core.step())
    extra = begun - batch  # tokens that early prompts got while the last ones were computed
    start = time.perf_counter()
    tokens = 0
    while core.has_work():
        tokens += sum(len(output.new_token_ids) for output in core.step())
    assert tokens + extra == batch * OUTPUT, (tokens, extra)
    return tokens / (time.perf_counter() - start)


def prefill_rate(core: EngineCore) -> float:
    """Prompt tokens per second of one prompt, after another to warm up, as llama-bench does."""
    for _ in range(2):
        for request in make_requests(1, PREFILL, 1):
            core.add_request(request)
        start = time.perf_counter()
        while core.has_work():
            core.step()
        seconds = time.perf_counter() - start
    return PREFILL / seconds


def peer() -> Callable[[Path], dict[str, float]] | None:
    """llama-bench's figures under our row names, or None where LLAMA_BENCH is not set."""
    command = os.environ.get("LLAMA_BENCH")
    if not command:
        return None

    def measure(model: Path) -> dict[str, float]:
        arguments = ["-m", str(model), "-p", str(PREFILL), "-n", str(OUTPUT), "-r", "1"]
        arguments += ["-t", str(len(os.sched_getaffinity(0))), "-o", "json"]
        text = subprocess.run(
            [*shlex.split(command), *arguments], capture_output=True, text=True, check=True
        ).stdout
        rates = {(r["n_prompt"], r["n_gen"]): r["avg_ts"] for r in json.loads(text)}
        return {"decode B=1": rates[0, OUTPUT], f"prefill {PREFILL}": rates[PREFILL, 0]}

    return measure


def packed_weights(core: EngineCore) -> list[np.ndarray]:
    """What one token streams: the packed matrices of all layers and of the head."""
    model = core.runner.model
    blocks = [block for layer in model.layers for block in (layer.attention, layer.mlp)]
    parts = [part for block in blocks for part in vars(block).values()]
    found = [part.packed for part in [*parts, model.lm_head] if hasattr(part, "packed")]
    return [tensor.numpy().view(np.uint64) for tensor in found]


def plain_read_rate(weights: list[np.ndarray]) -> float:
    """Tokens per second if reading the weights were all: numpy reductions, a thread a CPU."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - only this needs it

    cpus = len(os.sched_getaffinity(0))
    pieces = [piece for weight in weights for piece in np.array_split(weight, cpus)]
    with ThreadPoolExecutor(cpus) as pool:
        list(pool.map(np.maximum.reduce, pieces))
        start = time.perf_counter()
        list(pool.map(lambda mine: [np.maximum.reduce(p) for p in mine], _share(pieces, cpus)))
        return 1 / (time.perf_counter() - start)


def _share(pieces: list[np.ndarray], count: int) -> list[list[np.ndarray]]:
    return [pieces[first::count] for first in range(count)]


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def torch_import() -> tuple[float, float]:
    """Seconds and resident MiB of a process that imports torch and nothing of ours."""
    program = (
        "import time; start = time.perf_counter(); import torch;"
        "print(time.perf_counter() - start);"
        "print(int(open('/proc/self/statm').read().split()[1]) * 4096 / 2**20)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    seconds, mb = done.stdout.split()
    return float(seconds), float(mb)


def load(path: Path) -> tuple[EngineCore, list[Row]]:
    """A core, and what it took to have it."""
    seconds, mb = torch_import()
    started = time.perf_counter()
    core = EngineCore(EngineConfig(model=str(path), enable_prefix_caching=False))
    loaded = time.perf_counter() - started
    decode_rate(core, 8)  # touch the mapped weights and the KV cache once
    layout = core.runner.layout
    weights = sum(weight.nbytes for weight in packed_weights(core)) / 2**20
    cache = min(layout.num_tokens, 8 * (PROMPT + OUTPUT)) * layout.token_bytes / 2**20
    rows = [
        Row("load, torch import included", "s", [loaded], None, "lower"),
        Row("torch import alone", "s", [seconds], None, "lower"),
        Row("resident beyond torch's own", "MiB", [resident_mb() - mb], None, "lower"),
        Row("of that weights and used KV cache", "MiB", [weights + cache], None, "lower"),
    ]
    return core, rows


def run(model: str, repeats: int) -> list[Row]:
    """All rows."""
    path = resolve(model).path
    core, loading = load(path)
    weights = packed_weights(core)
    measure_peer = peer()
    ours, theirs, steps, parts, reads = (Samples() for _ in range(5))
    for _ in range(repeats):
        for batch in BATCHES:
            ours.add(f"decode B={batch}", decode_rate(core, batch))
            steps.add(f"a step but for its kernels, B={batch}", step_overhead(core, batch))
            for part, spent in step_parts(core, batch).items():
                parts.add(f"of a step, B={batch}: {part}", spent)
        reads.add("read of one token's weights", plain_read_rate(weights))
        ours.add(f"prefill {PREFILL}", prefill_rate(core))
        if measure_peer:
            theirs.add_all(measure_peer(path))
    rows = [Row(name, "token/s", ours[name], theirs.get(name), "higher") for name in ours]
    rows += [Row(name, "1/s", reads[name], None, "higher") for name in reads]
    rows += [Row(name, "us of CPU", steps[name], None, "lower") for name in steps]
    rows += [Row(name, "us", parts[name], None, "lower") for name in parts]
    return [*rows, *loading]
