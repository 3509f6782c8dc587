# SPDX-License-Identifier: Apache-2.0
"""Some hundred launches on a GPU as one: captured in a CUDA graph, replayed with whatever lies in
their memory.

Owns the life of a graph. Must not know what is computed. The CPU's counterpart is `recording`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch

Result = TypeVar("Result")


class Graph(Generic[Result]):
    """What `calls` launched, to be launched again; `result` is what it returned.

    `calls` runs twice: once on a stream of its own, as some libraries set themselves up at their
    first call, and once to be captured, when nothing is computed. It must only launch work on the
    current stream, on memory that stays where it is, and never wait for the device. What it
    allocates comes from `pool`, which graphs may share that never run at the same time.
    """

    def __init__(self, calls: Callable[[], Result], pool: Any) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.result = calls()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool, stream=stream):
            self.result = calls()

    def replay(self) -> Result:
        """Launch it all again on the current stream."""
        self._graph.replay()
        return self.result
