# SPDX-License-Identifier: Apache-2.0
"""A core without a model: counts upwards from the prompt's last token, and fails when told to.

``SamplingParams.extra_args`` of a request steer it:

========== ====================================================
refuse     ``add_request`` raises ``RequestError`` with this code
crash      ``add_request`` raises something else
explode    the first step of the request raises
========== ====================================================
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vllm.errors import ModelError, RequestError
from vllm.protocol.messages import (
    EngineCoreOutput,
    EngineCoreReadyResponse,
    EngineCoreRequest,
    FinishReason,
    LogprobsLists,
    LoRARequest,
    PrefillStats,
    PrefixCacheStats,
    SchedulerStats,
)

VOCABULARY = 256


@dataclass
class _Running:
    request: EngineCoreRequest
    produced: list[int] = field(default_factory=list)


class ScriptedCore:
    """``options``: ``step_s`` seconds per step, ``fail_start``, ``max_model_len``."""

    def __init__(self, options: dict[str, Any], progress: Any = None) -> None:
        if options.get("fail_start"):
            raise ModelError(options["fail_start"])
        if progress is not None:
            progress("weights", 0.0)
            progress("weights", 1.0)
        self.options = options
        self.running: dict[str, _Running] = {}
        self.aborted: list[str] = []
        self.steps = 0
        self.weight_version = "default"
        self._idle: Future[str] | None = None

    def registration(self) -> EngineCoreReadyResponse:
        return EngineCoreReadyResponse(
            max_model_len=self.options.get("max_model_len", 256),
            num_gpu_blocks=100,
            block_size=16,
            dtype="float32",
            vllm_version="0.1.0",
            max_num_seqs=64,
            max_num_batched_tokens=2048,
            instance_id="scripted",
        )

    def add_request(self, request: EngineCoreRequest) -> None:
        if request.sampling_params is None or not request.prompt_token_ids:
            raise RequestError("validation_error", "prompt_token_ids must not be empty")
        script = request.sampling_params.extra_args or {}
        if "refuse" in script:
            raise RequestError(script["refuse"], "refused as scripted", retryable=True)
        if "crash" in script:
            raise ZeroDivisionError("crashed as scripted")
        self.running[request.request_id] = _Running(request)

    def abort_requests(self, ids: Iterable[str]) -> None:
        for request_id in ids:
            if self.running.pop(request_id, None) is not None:
                self.aborted.append(request_id)
        self._go_on_if_idle()

    def has_work(self) -> bool:
        return bool(self.running)

    def step(self) -> list[EngineCoreOutput]:
        time.sleep(self.options.get("step_s", 0.0))
        self.steps += 1
        return [self._advance(request_id) for request_id in list(self.running)]

    def watch(self, on_lost: Callable[[], None]) -> None:
        """No other process belongs to it."""

    def close(self) -> None:
        """Nothing to end."""

    def stats(self) -> SchedulerStats:
        """One look-up of three tokens, two of them found, per report."""
        return SchedulerStats(
            num_running_reqs=len(self.running),
            step_counter=self.steps,
            prefix_cache_stats=PrefixCacheStats(requests=1, queries=3, hits=2),
        )

    def _advance(self, request_id: str) -> EngineCoreOutput:
        running = self.running[request_id]
        params = running.request.sampling_params
        if "explode" in (params.extra_args or {}):
            raise RuntimeError("exploded as scripted")
        last = running.produced[-1] if running.produced else running.request.prompt_token_ids[-1]
        token = (last + 1) % VOCABULARY
        running.produced.append(token)
        output = EngineCoreOutput(request_id, [token])
        if params.logprobs is not None:
            output.new_logprobs = _logprobs(token, params.logprobs)
        if len(running.produced) == 1:
            output.prefill_stats = PrefillStats(
                num_prompt_tokens=len(running.request.prompt_token_ids)
            )
        if token in params.stop_token_ids:
            output.finish_reason, output.stop_reason = FinishReason.STOP, token
        elif len(running.produced) >= (params.max_tokens or VOCABULARY):
            output.finish_reason = FinishReason.LENGTH
        if output.finished:
            del self.running[request_id]
            self._go_on_if_idle()
        return output

    def _go_on_if_idle(self) -> None:
        if not self.running and self._idle is not None:
            self._idle.set_result("idle")
            self._idle = None

    # ------------------------------------------------------------------------------------ utilities

    def is_sleeping(self) -> bool:
        return False

    def is_scheduler_paused(self) -> bool:
        return False

    def reset_prefix_cache(
        self, reset_running: bool = False, reset_connector: bool = False
    ) -> bool:
        return True

    def get_weight_version(self) -> str:
        return self.weight_version

    def set_weight_version(self, version: str) -> None:
        self.weight_version = version

    def echo(self, first: Any, second: Any = None) -> list[Any]:
        return [first, second]

    def add_lora(self, request: LoRARequest) -> bool:
        return isinstance(request, LoRARequest)

    def aborted_requests(self) -> list[str]:
        return self.aborted

    def running_requests(self) -> list[str]:
        return list(self.running)

    def when_idle(self) -> Future[str]:
        """Answered when the last request has ended."""
        self._idle = waiting = Future[str]()
        self._go_on_if_idle()
        return waiting

    def never(self) -> Future[str]:
        """Not answered as long as the engine lives."""
        return Future()

    def thing_without_a_form(self) -> object:
        return object()

    def fail(self) -> None:
        raise ZeroDivisionError("failed as scripted")


def _logprobs(token: int, count: int) -> LogprobsLists:
    ids = np.array([[token, *range(count)]], dtype=np.int32)
    values = -np.arange(count + 1, dtype=np.float32)[None] / 8 - 0.25
    return LogprobsLists(ids, values, np.array([1], dtype=np.int32))
