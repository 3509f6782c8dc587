# SPDX-License-Identifier: Apache-2.0
"""What the prefix cache saves: time to the first token under a shared system prompt, in process.

Owns the workload: a system prompt of 2,000 random tokens, which one request brings and a second one
repeats, each with 16 tokens of its own. The peer's column is the first request.
"""

from __future__ import annotations

import random
import time

from benchmarks.table import Row
from vllm.config.engine import EngineConfig
from vllm.config.model_source import resolve
from vllm.engine.core import EngineCore
from vllm.protocol.messages import EngineCoreOutput, EngineCoreRequest
from vllm.sampling.params import SamplingParams

SYSTEM, OWN = 2000, 16


def first_token(core: EngineCore, name: str, prompt: list[int]) -> tuple[float, int]:
    """Milliseconds until the only token of a request is there, and its cached prompt tokens."""
    request = EngineCoreRequest(
        request_id=name,
        prompt_token_ids=prompt,
        mm_features=None,
        sampling_params=SamplingParams(temperature=0.0, max_tokens=1),
        pooling_params=None,
        arrival_time=time.time(),
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
    )
    start = time.perf_counter()
    core.add_request(request)
    outputs: list[EngineCoreOutput] = []
    while not outputs:
        outputs = core.step()
    stats = outputs[0].prefill_stats
    assert stats is not None
    return 1000 * (time.perf_counter() - start), stats.num_cached_tokens


def run(model: str, repeats: int) -> list[Row]:
    """One row, in milliseconds."""
    core = EngineCore(EngineConfig(model=str(resolve(model).path)))
    numbers = random.Random(7)

    def text(length: int) -> list[int]:
        return [numbers.randrange(100, 40_000) for _ in range(length)]

    first_token(core, "warm", text(SYSTEM))  # touch the mapped weights and the KV cache once
    first: list[float] = []
    second: list[float] = []
    for repeat in range(repeats):
        system = text(SYSTEM)
        for times, expected in ((first, 0), (second, SYSTEM)):
            spent, cached = first_token(core, f"{repeat}-{expected}", system + text(OWN))
            assert cached == expected, (cached, expected)
            times.append(spent)
    name = f"TTFT, {SYSTEM:,} tokens of system prompt, second request"
    return [Row(name, "ms", second, first, "lower")]
