# SPDX-License-Identifier: Apache-2.0
"""What a decode step costs besides its kernels: the loop's thread, outside of the recorded step.

Owns the stopwatch. CPU time of that thread from taking messages to the encoded output message, less
that of the replay; so it counts scheduling, inputs, sampling, outputs and encoding, and no waiting.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

from benchmarks.requests import make_requests
from vllm.engine.core import EngineCore
from vllm.engine.loop import EngineLoop
from vllm.kernels import ops
from vllm.protocol.codec import Encoder

WARM_UP, STEPS = 20, 200


class Stopwatch:
    """CPU nanoseconds of this thread inside of `ops.replay`."""

    spent = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        replay = ops.replay

        def timed(recording: int) -> None:
            start = time.thread_time_ns()
            replay(recording)
            self.spent += time.thread_time_ns() - start

        ops.replay = timed
        try:
            yield
        finally:
            ops.replay = replay


def step_overhead(core: EngineCore, batch: int) -> float:
    """Microseconds per step of `batch` greedy requests that decode."""
    inbox: SimpleQueue[Any] = SimpleQueue()
    outbox: SimpleQueue[Any] = SimpleQueue()
    loop, encoder, watch = EngineLoop(core, inbox, outbox), Encoder(), Stopwatch()
    for request in make_requests(batch, 16, WARM_UP + STEPS + 20):
        loop._add(0, request)
    for _ in range(WARM_UP):
        loop._take_messages()
        loop._step()
        outbox.get()
    with watch.watching():
        start = time.thread_time_ns()
        for _ in range(STEPS):
            loop._take_messages()
            loop._step()
            encoder.encode(outbox.get().message)
        spent = time.thread_time_ns() - start - watch.spent
    core.abort_requests(list(core.requests))
    return spent / STEPS / 1000
