# SPDX-License-Identifier: Apache-2.0
"""The engine in process: decode at B = 1, 8 and 32, and prefill of 512 tokens.

Owns the workload; the schedule, the model and the kernels are the real ones. Where LLAMA_BENCH
holds the command of llama.cpp's `llama-bench`, its figures for the same file and threads are taken
between ours, run by run, so that a busy neighbour hits both.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.table import Row, Samples
from vllm.config.engine import EngineConfig
from vllm.config.model_source import resolve
from vllm.engine.core import EngineCore
from vllm.protocol.messages import EngineCoreRequest
from vllm.sampling.params import SamplingParams

BATCHES = (1, 8, 32)
PROMPT, OUTPUT, PREFILL = 64, 64, 512


def make_requests(batch: int, prompt: int, output: int) -> Iterator[EngineCoreRequest]:
    """`batch` greedy requests of random tokens that never stop early."""
    numbers = random.Random(7)
    params = SamplingParams(temperature=0.0, max_tokens=output, ignore_eos=True)
    for index in range(batch):
        yield EngineCoreRequest(
            request_id=f"bench-{index}",
            prompt_token_ids=[numbers.randrange(100, 40_000) for _ in range(prompt)],
            mm_features=None,
            sampling_params=params,
            pooling_params=None,
            arrival_time=time.time(),
            lora_request=None,
            cache_salt=None,
            data_parallel_rank=None,
        )


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
    """Prompt tokens per second of one prompt."""
    for request in make_requests(1, PREFILL, 1):
        core.add_request(request)
    start = time.perf_counter()
    while core.has_work():
        core.step()
    return PREFILL / (time.perf_counter() - start)


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


def run(model: str, repeats: int) -> list[Row]:
    """All rows, in tokens per second."""
    path = resolve(model).path
    started = time.perf_counter()
    core = EngineCore(EngineConfig(model=str(path), enable_prefix_caching=False))
    loaded = time.perf_counter() - started
    measure_peer = peer()
    ours, theirs = Samples(), Samples()
    decode_rate(core, 8)  # touch the mapped weights and the KV cache once
    for _ in range(repeats):
        for batch in BATCHES:
            ours.add(f"decode B={batch}", decode_rate(core, batch))
        ours.add(f"prefill {PREFILL}", prefill_rate(core))
        if measure_peer:
            theirs.add_all(measure_peer(path))
    rows = [Row(name, "token/s", ours[name], theirs.get(name), "higher") for name in ours]
    return [*rows, Row("load, torch import included", "s", [loaded], None, "lower")]
