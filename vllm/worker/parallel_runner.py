# SPDX-License-Identifier: Apache-2.0
"""Runners of one model on several ranks: rank 0 leads, the others follow.

Own what differs from a runner alone: the leader tells the steps, a follower does what it is told.
The plan of a step, its tokens and what comes of them are rank 0's alone.
"""

from __future__ import annotations

from vllm.config.engine import EngineConfig
from vllm.distributed.channel import Kind
from vllm.distributed.group import Group
from vllm.distributed.leader import Leader
from vllm.engine.request import Request
from vllm.logging import OnProgress
from vllm.sampling.sampler import Sampled
from vllm.scheduler.batch import Batch
from vllm.worker.input_batch import StepInputs
from vllm.worker.model_runner import ModelRunner


class LeadingRunner(ModelRunner):
    """Rank 0. Raises `EngineDiedError` where another rank has ended."""

    def __init__(self, config: EngineConfig, progress: OnProgress, leader: Leader) -> None:
        self._leader = leader
        with leader.explaining():
            super().__init__(config, progress, leader)
        leader.await_loaded()

    def prepare(self, batch: Batch) -> StepInputs:
        inputs = super().prepare(batch)
        self._leader.announce(Kind.STEP, self.inputs.pack(inputs))
        return inputs

    def execute(self, batch: Batch) -> StepInputs:
        with self._leader.explaining():
            return super().execute(batch)

    def sample(self, batch: Batch, inputs: StepInputs) -> tuple[list[Request], Sampled]:
        with self._leader.explaining():
            return super().sample(batch, inputs)

    def release_cache(self) -> None:
        self._leader.announce(Kind.RELEASE)
        super().release_cache()

    def restore_cache(self) -> None:
        self._leader.announce(Kind.RESTORE)
        super().restore_cache()


class FollowingRunner(ModelRunner):
    """A rank above 0."""

    def __init__(self, config: EngineConfig, group: Group) -> None:
        super().__init__(config, lambda _phase, _done: None, group)

    def follow(self, step: bytes) -> None:
        """Compute this rank's part of a step, given as `InputBatch.pack` made it."""
        self._forward(self.inputs.unpack(step))
