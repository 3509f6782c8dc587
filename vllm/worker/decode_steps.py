# SPDX-License-Identifier: Apache-2.0
"""Decode steps, recorded once per size and replayed in one call.

Owns the recordings, and which sizes there are. Must not know what a step computes. A step of a size
reads and writes the same memory each time (its inputs, the workspace, the caches and the logits are
allocated once), so only what lies there differs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from vllm.worker.input_batch import StepInputs

# On the CPU a recording of 30 layers takes some 50 KB. Above so many requests the arithmetic of a
# step is far larger than its calls.
MAX_RECORDED_ON_CPU = 64
# A graph takes some MB of the device. Up to here sizes double, from here on they grow by as much.
DOUBLING = 16


@dataclass(frozen=True, slots=True)
class Computed:
    """What a step computes for each of its P rows; lives until the next one.

    `choices` i64 [P + 1]: the likeliest token of each row of logits, unless another was drawn
    since, and 1 where a row may be NaN. It is on the host, and there once `Choices.fetch` has been
    called.
    """

    hidden: Tensor  # [P, hidden]
    logits: Tensor  # f32 [P, vocab]
    choices: memoryview


class Recorded(Protocol):
    """What was done once, `result` being what came of it, and can be done again."""

    result: Computed

    def replay(self) -> Computed: ...


Record = Callable[[Callable[[], Computed]], Recorded]


@dataclass
class DecodeSteps:
    """`compute(inputs)` is a whole step from ids to tokens; `record(calls)` runs `calls` and keeps
    what they did. Sizes above `most` are computed each time.
    """

    compute: Callable[[StepInputs], Computed]
    record: Record
    most: int
    recordings: dict[int, Recorded] = field(default_factory=dict)

    def run(self, inputs: StepInputs) -> Computed:
        """Compute the step, by replaying a recording where there is one."""
        size = inputs.num_tokens
        recording = self.recordings.get(size)
        if recording is not None:
            return recording.replay()
        if size > self.most:
            return self.compute(inputs)
        recording = self.recordings[size] = self.record(lambda: self.compute(inputs))
        return recording.result

    def forget(self) -> None:
        """Before memory that steps work on is given back."""
        self.recordings.clear()


def bucket(size: int, most: int) -> int:
    """The size, at most `most`, that a step of so many requests is recorded at on a GPU: 1, 2, 4,
    8, 16, 32, 48 and so on.
    """
    if size <= DOUBLING:
        return min(1 << (size - 1).bit_length(), most)
    return min(-(-size // DOUBLING) * DOUBLING, most)
