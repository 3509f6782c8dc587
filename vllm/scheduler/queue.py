# SPDX-License-Identifier: Apache-2.0
"""The waiting requests in the order in which they will be served.

Owns the order: lower priority number first, then arrival. Must not know blocks or budgets.
Nothing here walks the queue: a step costs the same with ten requests waiting as with a million
(but for the logarithm of a heap).
"""

from __future__ import annotations

import heapq

from vllm.engine.request import Request

_COMPACT_ABOVE = 64  # dead entries tolerated before the heap is rebuilt


class WaitingQueue:
    """A heap on `Request.key`. A preempted request keeps its key, so it comes back to the front."""

    def __init__(self) -> None:
        self._heap: list[tuple[tuple[int, int], Request]] = []
        # By id, and which object: an id that was discarded may be used again while its old entry
        # is still in the heap.
        self._live: dict[str, Request] = {}

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, request: Request) -> bool:
        return self._live.get(request.request_id) is request

    def push(self, request: Request) -> None:
        assert request.request_id not in self._live, f"{request.request_id} is already waiting"
        self._live[request.request_id] = request
        heapq.heappush(self._heap, (request.key, request))

    def peek(self) -> Request | None:
        """The next request, left in the queue."""
        while self._heap and self._heap[0][1] not in self:
            heapq.heappop(self._heap)
        return self._heap[0][1] if self._heap else None

    def pop(self) -> Request:
        """Take the next request; the queue must not be empty."""
        request = self.peek()
        assert request is not None, "the waiting queue is empty"
        heapq.heappop(self._heap)
        del self._live[request.request_id]
        return request

    def discard(self, request: Request) -> None:
        """Forget a request (an abort): its heap entry dies now and is dropped later."""
        if request not in self:
            return
        del self._live[request.request_id]
        dead = len(self._heap) - len(self._live)
        if dead > _COMPACT_ABOVE and dead > len(self._live):
            self._heap = [entry for entry in self._heap if entry[1] in self]
            heapq.heapify(self._heap)
