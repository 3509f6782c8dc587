# SPDX-License-Identifier: Apache-2.0
"""The engine: requests in, one step at a time, outputs out.

Owns the requests and the order of a step: schedule, execute, sample, output. Must not know sockets
(`process` does), text or HTTP. One thread calls it.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from vllm.config.engine import EngineConfig
from vllm.distributed.leader import Leader
from vllm.distributed.local_ranks import start_ranks
from vllm.engine.outputs import (
    NO_LOOK_UPS,
    check_stop,
    make_output,
    nan_output,
    prefix_cache_stats,
    prompt_logprobs,
    sample_logprobs,
)
from vllm.engine.repetition import make_watch
from vllm.engine.request import EventType, Request, Status
from vllm.engine.utilities import Utilities
from vllm.engine.validation import RequestLimits, check_request, refuse
from vllm.errors import NotSupported
from vllm.kvcache.manager import KVCacheManager
from vllm.logging import OnProgress, init_logger
from vllm.protocol.messages import (
    EngineCoreOutput,
    EngineCoreReadyResponse,
    EngineCoreRequest,
    SchedulerStats,
)
from vllm.sampling.params import SamplingParams
from vllm.scheduler.batch import Batch
from vllm.scheduler.scheduler import Limits, Scheduler

if TYPE_CHECKING:  # their modules load torch
    from vllm.sampling.sampler import Sampled
    from vllm.worker.input_batch import StepInputs
    from vllm.worker.model_runner import ModelRunner

logger = init_logger(__name__)


class EngineCore(Utilities):
    """One model with its scheduler and KV cache.

    `leader` has the other ranks of a model over several; without one they are started here.
    `progress(phase, done)` is told of "torch", "weights" and "KV cache", each from 0.0 to 1.0.
    Raises `vllm.errors.ModelError` and `EngineStartError` with one line each.
    """

    def __init__(
        self,
        config: EngineConfig,
        progress: OnProgress | None = None,
        leader: Leader | None = None,
    ) -> None:
        super().__init__()
        progress = progress or (lambda _phase, _done: None)
        self.config = config
        self._leader = leader
        if leader is None and config.tensor_parallel_size > 1:
            self._leader = start_ranks(config)
        self.runner = self._load(progress)
        layout = self.runner.layout
        self.scheduler = Scheduler(
            Limits(config.max_num_seqs, config.max_num_batched_tokens),
            KVCacheManager(
                layout.num_blocks,
                layout.block_size,
                config.enable_prefix_caching,
                self.runner.config.reach,
            ),
        )
        self.limits = RequestLimits(
            self.runner.config.vocab_size,
            self.runner.max_model_len,
            config.max_logprobs,
            config.scheduling_policy == "priority",
            bool(config.thinking_start),
        )
        self.requests: dict[str, Request] = {}
        self.num_steps = 0
        self._batch: Batch | None = None
        self._arrivals = 0
        self._seeds = random.Random(config.seed)
        self._instance_id = uuid.uuid4().hex

    def _load(self, progress: OnProgress) -> ModelRunner:
        progress("torch", 0.0)
        from vllm.worker.model_runner import ModelRunner  # noqa: PLC0415 - imports torch
        from vllm.worker.parallel_runner import LeadingRunner  # noqa: PLC0415

        progress("torch", 1.0)
        if self._leader is None:
            return ModelRunner(self.config, progress)
        try:
            return LeadingRunner(self.config, progress, self._leader)
        except BaseException:
            self.close()
            raise

    def watch(self, on_lost: Callable[[], None]) -> None:
        """Call `on_lost` from another thread when a process of this engine ends; then `has_work`
        raises, see `Leader.watch`.
        """
        if self._leader is not None:
            self._leader.watch(on_lost)

    def close(self) -> None:
        """End the other processes of this engine."""
        if self._leader is not None:
            self._leader.close()

    def registration(self) -> EngineCoreReadyResponse:
        """What a frontend is told of this engine; the process adds ranks and addresses."""
        from vllm.version import __version__  # noqa: PLC0415 - generated at build time

        layout = self.runner.layout
        return EngineCoreReadyResponse(
            max_model_len=self.limits.max_model_len,
            num_gpu_blocks=layout.num_blocks,
            block_size=layout.block_size,
            dtype=str(self.runner.activation_dtype).removeprefix("torch."),
            vllm_version=__version__,
            world_size=self.config.tensor_parallel_size,
            tensor_parallel_size=self.config.tensor_parallel_size,
            max_num_seqs=self.config.max_num_seqs,
            max_num_batched_tokens=self.config.max_num_batched_tokens,
            instance_id=self._instance_id,
            kv_cache_size_tokens=layout.num_tokens,
            kv_cache_max_concurrency=layout.num_tokens / self.limits.max_model_len,
            enable_sleep_mode=self.runner.can_release_cache,
        )

    def add_request(self, request: EngineCoreRequest) -> None:
        """Queue a request; raises `RequestError` for one that cannot be served."""
        self.refuse_if_paused()
        if request.request_id in self.requests:
            raise refuse("request_id", request.request_id, "a request of this id is in the engine")
        params = check_request(request, self.limits)
        prompt = request.prompt_token_ids or []
        wanted = self.limits.max_model_len
        if params.max_tokens is not None:
            wanted = min(wanted, len(prompt) + params.max_tokens)
        own = Request(
            request_id=request.request_id,
            prompt_token_ids=prompt,
            sampling_params=params,
            order=self._arrivals,
            priority=request.priority,
            client_index=request.client_index,
            max_total_tokens=wanted,
            seed=self._seeds.getrandbits(64) if params.seed is None else params.seed,
            trace_headers=request.trace_headers,
            cache_salt=request.cache_salt,
            reads_cache=_reads_cache(params),
            repetition=make_watch(params.repetition_detection, wanted - len(prompt)),
        )
        self._arrivals += 1
        own.events.append((EventType.QUEUED, time.monotonic()))
        if request.abort_immediately:
            self.ended.append(EngineCoreOutput.aborted(own.request_id))
            return
        self.requests[own.request_id] = own
        self.scheduler.add(own)

    def abort_requests(self, ids: Iterable[str]) -> None:
        """Forget requests; their clients get nothing more. Unknown ids are ignored."""
        for request_id in ids:
            request = self.requests.get(request_id)
            if request is not None:
                self._end(request)

    def abort_all(self) -> None:
        """End every request; each client is told in the next step's outputs."""
        for request in list(self.requests.values()):
            self.ended.append(EngineCoreOutput.aborted(request.request_id))
            self._end(request)

    @property
    def idle(self) -> bool:
        return not self.requests

    def has_work(self) -> bool:
        """Whether `step` would do anything. Raises `EngineDiedError` if a rank was lost."""
        if self._leader is not None:
            self._leader.check()
        return bool(self.ended) or (not self.frozen and self.scheduler.has_work())

    def step(self) -> list[EngineCoreOutput]:
        """Compute one batch; what every request in it gained."""
        batch = self.schedule()
        if not batch.requests:
            return self._take_ended()
        inputs = self.execute(batch)
        due, sampled = self.sample(batch, inputs)
        return self.output(due, sampled)

    def schedule(self) -> Batch:
        """Plan the step and note who begins and who is put back."""
        self._batch = None
        batch = Batch() if self.frozen else self.scheduler.schedule()
        self._batch = batch
        if batch.admitted or batch.preempted:
            now = time.monotonic()
            for request in batch.admitted:
                request.events.append((EventType.SCHEDULED, now))
            for request in batch.preempted:
                request.events.append((EventType.PREEMPTED, now))
        return batch

    @property
    def step_shape(self) -> str:
        """What the step under way computes; any thread may ask."""
        batch = self._batch
        return "" if batch is None else batch.describe()

    def execute(self, batch: Batch) -> StepInputs:
        """Run the model; hidden states stay with the runner."""
        self.num_steps += 1
        return self.runner.execute(batch)

    def sample(self, batch: Batch, inputs: StepInputs) -> tuple[list[Request], Sampled]:
        """Choose the next token of the requests that are due."""
        chosen = self.runner.sample(batch, inputs)
        self.scheduler.complete(batch)
        return chosen

    def output(self, due: list[Request], sampled: Sampled) -> list[EngineCoreOutput]:
        """Append the tokens, end who is done, and say so."""
        outputs = self._take_ended()
        nans, logprobs, prompts = sampled.nans, sampled.logprobs, self.runner.prompt_logprobs
        for index, (request, token) in enumerate(zip(due, sampled.token_ids, strict=True)):
            if index in nans:
                outputs.append(self._fail(request, nans[index]))
                continue
            request.output_token_ids.append(token)
            finish = check_stop(request)
            output = make_output(request, token, finish)
            outputs.append(output)
            if index in logprobs:
                output.new_logprobs = sample_logprobs(logprobs[index])
            if request.request_id in prompts:
                found = prompts.pop(request.request_id).result
                output.new_prompt_logprobs_tensors = prompt_logprobs(found)
            if output.finish_reason is not None:
                self._end(request)
        return outputs

    def _fail(self, request: Request, num_nans: int) -> EngineCoreOutput:
        """End a request whose logits are NaN; what it computed may be, too, so nobody gets it."""
        logger.warning(
            "request %s failed: %d of %d logits are NaN at position %d",
            request.request_id,
            num_nans,
            self.limits.vocab_size,
            request.num_tokens,
        )
        output = nan_output(request, num_nans)
        self.scheduler.kv_cache.distrust(request.request_id)
        self._end(request)
        return output

    def stats(self) -> SchedulerStats:
        """The scheduler's state after the last step; look-ups since the last call."""
        scheduler, look_ups = self.scheduler, self.scheduler.kv_cache.take_look_ups()
        return SchedulerStats(
            num_running_reqs=len(scheduler.running),
            num_waiting_reqs=scheduler.num_waiting,
            step_counter=self.num_steps,
            kv_cache_usage=scheduler.kv_cache.pool.usage,
            prefix_cache_stats=NO_LOOK_UPS if look_ups is None else prefix_cache_stats(look_ups),
        )

    def clear_cache(self, reset_running: bool) -> None:
        """Forget what is in the prefix cache; with `reset_running` also what is running."""
        if reset_running:
            now = time.monotonic()
            for request in self.scheduler.preempt_all():
                request.events.append((EventType.PREEMPTED, now))
                self.runner.remove(request)
        self.scheduler.reset_prefix_cache()

    def _check_can_release(self) -> None:
        if not self.runner.can_release_cache:
            raise NotSupported(f"sleep level 1 on a {self.runner.device.type} device")

    def _release_cache(self) -> None:
        self.runner.release_cache()

    def _restore_cache(self) -> None:
        self.runner.restore_cache()

    def _take_ended(self) -> list[EngineCoreOutput]:
        """What ended outside of a step since the last one."""
        ended, self.ended = self.ended, []
        return ended

    def _end(self, request: Request) -> None:
        if request.status is Status.RUNNING and request.row >= 0:
            self.runner.remove(request)
        self.scheduler.remove(request)
        del self.requests[request.request_id]
        if self.idle:
            self._on_idle()


def _reads_cache(params: SamplingParams) -> bool:
    """Positions found in the prefix cache have no logits, which prompt log probabilities need."""
    return params.prompt_logprobs is None and not params.skip_reading_prefix_cache
