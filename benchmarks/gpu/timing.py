# SPDX-License-Identifier: Apache-2.0
"""Time on the device: launches captured in a graph, replayed between two events.

Owns the stopwatch. A graph leaves no gap between launches that are shorter than Python's way to
the next one. Inputs rotate over several sets, so that they do not lie in the cache.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch

LAUNCHES = 20  # in a graph at least
REPLAYS = (5, 30)  # timed, least and most
SECONDS = 0.15  # of replays of one kernel


def captured(calls: Sequence[Callable[[], object]], launches: int) -> torch.cuda.CUDAGraph:
    """A graph of so many launches, round and round over `calls`."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for call in calls:
            call()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for index in range(launches):
            calls[index % len(calls)]()
    return graph


def device_seconds(run: Callable[[], object]) -> float:
    """Between two events around `run`."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000


def median_seconds(calls: Sequence[Callable[[], object]]) -> float:
    """Of one call, on the device."""
    launches = -(-LAUNCHES // len(calls)) * len(calls)
    graph = captured(calls, launches)
    once = max(device_seconds(graph.replay), 1e-6)
    replays = min(max(int(SECONDS / once), REPLAYS[0]), REPLAYS[1])
    return statistics.median(device_seconds(graph.replay) for _ in range(replays)) / launches


def host_seconds(call: Callable[[], object], calls: int = 500) -> float:
    """What the host needs to hand one launch over, the device left to itself."""
    for _ in range(50):
        call()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(calls):
        call()
    spent = time.perf_counter() - start
    torch.cuda.synchronize()
    return spent / calls
