# SPDX-License-Identifier: Apache-2.0
"""The whole engine on random models made on the device: decode and prefill.

Owns the workload; scheduler, model, kernels and sampler are the real ones. `busy` is the device's
time for a step, kernels and copies, as torch's profiler has it, and `gap` is what is left of a
step: Python, launches and waiting.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.random_models import SHAPES
from benchmarks.requests import make_requests
from vllm.config.engine import EngineConfig
from vllm.engine.core import EngineCore
from vllm.sampling.params import SamplingParams

BATCHES, PREFILLS = (1, 8, 32, 128), (512, 2048)
PROMPT, WARM_UP, STEPS, PROFILED = 128, 8, 40, 8
CACHE = 8 << 30  # bytes
TOP = 6  # kernels named per case
SAMPLED = SamplingParams(temperature=0.8, top_p=0.95, seed=1, max_tokens=4096, ignore_eos=True)


def run(name: str, ceiling: float = 0.0) -> dict[str, Any]:
    """Every row of one model of `SHAPES`; `ceiling` in bytes a second gives decoding its floor."""
    with tempfile.TemporaryDirectory(prefix="vllm-gpu-bench-") as folder:
        Path(folder, "config.json").write_text(json.dumps(SHAPES[name]))
        start = time.perf_counter()
        core = EngineCore(_config(folder))
        torch.cuda.synchronize()
        loading = time.perf_counter() - start
    memory = torch.cuda.memory_allocated() - core.runner.layout.num_tokens * (
        core.runner.layout.token_bytes
    )
    floor = memory / ceiling * 1000 if ceiling and core.runner.config.experts is None else None
    rows = [decode(core, batch) | {"floor_ms": floor} for batch in BATCHES]
    rows.append(decode(core, 32, SAMPLED))
    with without_graphs(core):
        rows += [decode(core, batch, title="call by call") for batch in (1, 32)]
    rows += [prefill(core, length) for length in PREFILLS]
    return {"model": name, "load_s": loading, "weight_bytes": memory, "rows": rows}


def _config(folder: str) -> EngineConfig:
    return EngineConfig(
        folder,
        device="cuda",
        dtype="bfloat16",
        load_format="dummy",
        kv_cache_memory=CACHE,
        max_num_seqs=max(BATCHES),
        enable_prefix_caching=False,
    )


@contextmanager
def without_graphs(core: EngineCore) -> Iterator[None]:
    """Decode steps are launched one by one, as with `enforce_eager`."""
    steps = core.runner._decode_steps
    most, recordings = steps.most, steps.recordings
    steps.most, steps.recordings = 0, {}
    try:
        yield
    finally:
        steps.most, steps.recordings = most, recordings


def decode(
    core: EngineCore, batch: int, params: SamplingParams | None = None, title: str = ""
) -> dict[str, Any]:
    """Milliseconds of a step of `batch` requests that all decode."""
    begin(core, batch, params)
    for _ in range(WARM_UP):
        core.step()
    times = [_timed(core) for _ in range(STEPS)]
    title = title or ("sampled" if params else "")
    row = _row(f"decode B={batch}" + (title and f", {title}"), batch, times)
    row |= _profiled(core, row["ms"])
    core.abort_requests(list(core.requests))
    return row


def begin(core: EngineCore, batch: int, params: SamplingParams | None) -> None:
    """Submit requests and compute their prompts."""
    length = WARM_UP + STEPS + PROFILED + 20
    for request in make_requests(batch, PROMPT, length):
        if params is not None:
            request.sampling_params = params
        core.add_request(request)
    waiting = batch
    while waiting > 0:
        waiting -= sum(output.prefill_stats is not None for output in core.step())


def prefill(core: EngineCore, length: int) -> dict[str, Any]:
    """Milliseconds from a prompt's arrival to its first token."""
    times = []
    for _ in range(7):
        for request in make_requests(1, length, 1):
            core.add_request(request)
        times.append(_timed(core))
        assert core.idle, "a prompt took more than one step"
    row = _row(f"prefill {length}", length, times[2:])
    for request in make_requests(1, length, 1):
        core.add_request(request)
    return row | _profiled(core, row["ms"], steps=1)


def _timed(core: EngineCore) -> tuple[float, float]:
    """Seconds of wall and of this thread's CPU; a step ends with its tokens on the host."""
    wall, cpu = time.perf_counter(), time.thread_time()
    core.step()
    return time.perf_counter() - wall, time.thread_time() - cpu


def _row(name: str, tokens: int, times: list[tuple[float, float]]) -> dict[str, Any]:
    walls, cpus = zip(*times, strict=True)
    wall = statistics.median(walls)
    return {
        "name": name,
        "tokens_per_s": tokens / wall,
        "ms": wall * 1000,
        "ms_least": min(walls) * 1000,
        "ms_most": max(walls) * 1000,
        "cpu_ms": statistics.median(cpus) * 1000,
    }


def _profiled(core: EngineCore, ms: float, steps: int = PROFILED) -> dict[str, Any]:
    """The device's own time of a step and which kernels it goes to."""
    try:
        with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiler:
            for _ in range(steps):
                core.step()
            torch.cuda.synchronize()
    except RuntimeError as error:  # the tables are worth having without
        return {"busy_ms": None, "profiler": str(error).splitlines()[0]}
    if not (spent := _device_times(profiler)):
        return {"busy_ms": None, "profiler": "it saw nothing on the device"}
    busy = sum(total for total, _ in spent.values()) / steps / 1000
    largest = sorted(spent.items(), key=lambda item: -item[1][0])[:TOP]
    kernels = {key: [us / steps / 1000, count / steps] for key, (us, count) in largest}
    launches = sum(count for _, count in spent.values()) / steps
    return {"busy_ms": busy, "gap_ms": ms - busy, "launches": launches, "kernels": kernels}


def _device_times(profiler: Any) -> dict[str, tuple[float, int]]:
    """Kernel, copy or fill to microseconds and number."""
    spent: dict[str, tuple[float, int]] = {}
    for event in profiler.events():
        if event.device_type != torch.autograd.DeviceType.CUDA:
            continue
        us, count = spent.get(event.name, (0.0, 0))
        spent[event.name] = (us + event.time_range.elapsed_us(), count + 1)
    return spent
