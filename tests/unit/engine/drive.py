# SPDX-License-Identifier: Apache-2.0
"""Drives an `EngineCore` to the end of its work and collects what comes out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from vllm.engine.core import EngineCore
from vllm.protocol.messages import EngineCoreOutput, EngineCoreRequest
from vllm.sampling.params import SamplingParams

MAX_STEPS = 20_000


@dataclass
class Result:
    """Everything one request got."""

    tokens: list[int] = field(default_factory=list)
    outputs: list[EngineCoreOutput] = field(default_factory=list)

    @property
    def last(self) -> EngineCoreOutput:
        return self.outputs[-1]


def request(name: str, prompt: list[int], **params: Any) -> EngineCoreRequest:
    """A request as it comes off the wire; temperature 0 and 8 tokens unless told otherwise."""
    values = {"temperature": 0.0, "max_tokens": 8} | params
    return EngineCoreRequest(
        request_id=name,
        prompt_token_ids=prompt,
        mm_features=None,
        sampling_params=SamplingParams(**values),
        pooling_params=None,
        arrival_time=0.0,
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
    )


def finish(engine: EngineCore, requests: Iterable[EngineCoreRequest] = ()) -> dict[str, Result]:
    """Add the requests and step until nothing is left to do."""
    results: dict[str, Result] = {}
    for one in requests:
        engine.add_request(one)
    for _ in range(MAX_STEPS):
        if not engine.has_work():
            return results
        for output in engine.step():
            result = results.setdefault(output.request_id, Result())
            result.tokens += output.new_token_ids
            result.outputs.append(output)
        engine.scheduler.kv_cache.check_integrity()
    raise AssertionError(f"not done after {MAX_STEPS} steps")
