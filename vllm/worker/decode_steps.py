# SPDX-License-Identifier: Apache-2.0
"""Decode steps on the CPU, recorded once per number of requests and replayed in one call.

Owns the recordings. Must not know what a step computes. A step of B requests reads and writes the
same memory each time (the input batch, the workspace, the caches and the logits are allocated
once), so only what lies there differs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from vllm.kernels.recording import Recording
from vllm.worker.input_batch import StepInputs

# A recording of 30 layers takes some 50 KB. Above so many requests the arithmetic of a step is far
# larger than its calls.
MAX_RECORDED = 64


@dataclass(frozen=True, slots=True)
class Computed:
    """What a step of B requests computes; lives until the next one.

    `likeliest` i64 [B]: of each row of logits. `suspect` i64 [1]: 1 where one of them may be NaN.
    """

    hidden: Tensor  # [B, hidden]
    logits: Tensor  # f32 [B, vocab]
    likeliest: np.ndarray
    suspect: np.ndarray


@dataclass
class DecodeSteps:
    """`compute(inputs)` is a whole step from ids to tokens and calls nothing but CPU ops."""

    compute: Callable[[StepInputs], Computed]
    recordings: dict[int, Recording[Computed]] = field(default_factory=dict)

    def run(self, inputs: StepInputs) -> Computed:
        """Compute the step, by replaying a recording where there is one."""
        count = len(inputs.rows)
        recording = self.recordings.get(count)
        if recording is not None:
            return recording.replay()
        if count > MAX_RECORDED:
            return self.compute(inputs)
        recording = self.recordings[count] = Recording(lambda: self.compute(inputs))
        return recording.result

    def forget(self) -> None:
        """Before memory that steps work on is given back."""
        self.recordings.clear()
