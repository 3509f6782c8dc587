# SPDX-License-Identifier: Apache-2.0
"""Which engines are started again, and when: so many times in ten minutes each, ever later.

Must not know processes; whoever asks brings the clock.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

WINDOW_S = 600.0
FIRST_PAUSE_S = 1.0
"""Before the first start in a window; each further one waits twice as long."""
_WITHIN = f"within {WINDOW_S / 60:g} minutes"


class Restarts:
    """The starts that are due, per engine."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._past: dict[int, deque[float]] = {}
        self._due: dict[int, float] = {}
        self._deadlines: dict[int, float] = {}

    def died(self, rank: int) -> str | None:
        """Plan another start of an engine; in words what is planned, None: it has had its share."""
        now = self._clock()
        self._deadlines.pop(rank, None)
        past = self._past.setdefault(rank, deque())
        while past and past[0] <= now - WINDOW_S:
            past.popleft()
        if len(past) >= self._most:
            return None
        pause = FIRST_PAUSE_S * 2 ** len(past)
        past.append(now)
        self._due[rank] = now + pause
        return f"starting it again in {pause:g} s ({len(past)} of {self._most} {_WITHIN})"

    @property
    def spent(self) -> str:
        """In words, for an engine that has had its share."""
        if self._most == 0:
            return "--engine-restarts is 0"
        return (
            f"it was started again {self._most} times {_WITHIN}, as often as --engine-restarts says"
        )

    def take_due(self) -> list[int]:
        """Engines to start now."""
        now = self._clock()
        ranks = [rank for rank, at in self._due.items() if at <= now]
        for rank in ranks:
            del self._due[rank]
        return ranks

    def started(self, rank: int, seconds: float) -> None:
        """An engine is starting and has this long to become ready."""
        self._deadlines[rank] = self._clock() + seconds

    @property
    def starting(self) -> tuple[int, ...]:
        return tuple(self._deadlines)

    def ready(self, rank: int) -> None:
        del self._deadlines[rank]

    def take_overdue(self) -> list[int]:
        """Engines that were not ready in time."""
        now = self._clock()
        ranks = [rank for rank, at in self._deadlines.items() if at <= now]
        for rank in ranks:
            del self._deadlines[rank]
        return ranks

    def pause_ms(self) -> int | None:
        """How long nothing will be due; None: until something else happens."""
        moments = [*self._due.values(), *self._deadlines.values()]
        if not moments:
            return None
        return max(0, int((min(moments) - self._clock()) * 1000) + 1)
