# SPDX-License-Identifier: Apache-2.0
"""Greedy requests of random tokens, as they come off the wire."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from vllm.protocol.messages import EngineCoreRequest
from vllm.sampling.params import SamplingParams


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
