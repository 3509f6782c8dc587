# SPDX-License-Identifier: Apache-2.0
"""What a decode step costs besides its kernels: the loop's thread, outside of the recorded step.

Owns the stopwatches. `step_overhead` is CPU time of that thread from taking messages to the encoded
output message, less that of the replay; so it counts scheduling, inputs, handing over to the
recording, sampling, outputs and encoding, and no waiting. `step_parts` is the same as a profile.
The kernels run in between, so both find caches as cold as a server does.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from queue import SimpleQueue
from typing import Any

from benchmarks.requests import make_requests
from vllm.engine.core import EngineCore
from vllm.engine.loop import EngineLoop
from vllm.kernels import ops
from vllm.kernels.recording import Recording
from vllm.protocol.codec import Encoder

WARM_UP, STEPS = 20, 200


class Stepping:
    """A loop on `batch` greedy requests that decode, as many steps as are asked for."""

    def __init__(self, core: EngineCore, batch: int) -> None:
        inbox: SimpleQueue[Any] = SimpleQueue()
        self._outbox: SimpleQueue[Any] = SimpleQueue()
        self._loop, self._encoder = EngineLoop(core, inbox, self._outbox), Encoder()
        for request in make_requests(batch, 16, WARM_UP + STEPS + 20):
            self._loop._add(0, request)
        for _ in range(WARM_UP):
            self.step()

    def step(self, lap: Callable[[str], None] = lambda _: None) -> None:
        self._loop._take_messages()
        self._loop._step()
        lap("message")
        self._encoder.encode(self._outbox.get().message)
        lap("encoding")


@contextmanager
def stepping(core: EngineCore, batch: int) -> Iterator[Stepping]:
    yield Stepping(core, batch)
    core.abort_requests(list(core.requests))


@contextmanager
def replaced(owner: Any, name: str, wrap: Callable[[Any], Any]) -> Iterator[None]:
    """`owner.name` is `wrap(owner.name)` for a while."""
    original = getattr(owner, name)
    setattr(owner, name, wrap(original))
    try:
        yield
    finally:
        setattr(owner, name, original)


class Stopwatch:
    """CPU nanoseconds of this thread inside of `ops.replay`. What handing over takes is not in
    them: a recording of nothing is replayed after each.
    """

    def __init__(self) -> None:
        self.spent = 0
        self._nothing = Recording(lambda: None)

    def wrap(self, replay: Callable[[int], None]) -> Callable[[int], None]:
        def timed(recording: int) -> None:
            start = time.thread_time_ns()
            replay(recording)
            self.spent += time.thread_time_ns() - start
            replay(self._nothing._number)

        return timed


def step_overhead(core: EngineCore, batch: int) -> float:
    """Microseconds of CPU per step of `batch` requests."""
    watch = Stopwatch()
    with stepping(core, batch) as running, replaced(ops, "replay", watch.wrap):
        start = time.thread_time_ns()
        for _ in range(STEPS):
            running.step()
        spent = time.thread_time_ns() - start - watch.spent
    return spent / STEPS / 1000


SEAMS: tuple[tuple[Callable[[EngineCore], tuple[Any, str]], str], ...] = (
    (lambda core: (core, "schedule"), "schedule"),
    (lambda core: (core.runner.inputs, "prepare"), "inputs"),
    (lambda _: (ops, "replay"), ""),
    (lambda core: (core, "execute"), "execute"),
    (lambda core: (core, "sample"), "sample"),
    (lambda core: (core, "output"), "output"),
)
"""Calls of a step in order, and the name of the part that ends with each; "" is left out."""


def step_parts(core: EngineCore, batch: int) -> dict[str, float]:
    """Microseconds of the parts of a step, medians by the wall clock."""
    laps: dict[str, list[float]] = {}
    last = 0

    def lap(part: str) -> None:
        nonlocal last
        now = time.perf_counter_ns()
        laps.setdefault(part, []).append((now - last) / 1000)
        last = time.perf_counter_ns()

    def ending(part: str, before: str = "") -> Callable[[Any], Any]:
        def wrap(call: Any) -> Any:
            def timed(*arguments: Any) -> Any:
                if before:
                    lap(before)
                result = call(*arguments)
                lap(part)
                return result

            return timed

        return wrap

    with stepping(core, batch) as running, ExitStack() as stack:
        for place, part in SEAMS:
            # The way to the replay belongs to executing as the way back does.
            owner, name = place(core)
            wrap = ending(part, "" if part else "to the replay")
            stack.enter_context(replaced(owner, name, wrap))
        for _ in range(STEPS):
            last = time.perf_counter_ns()
            running.step(lap)
    parts = {part: statistics.median(values) for part, values in laps.items() if part}
    parts["execute"] += parts.pop("to the replay")
    return parts
