# SPDX-License-Identifier: Apache-2.0
"""Reports a step that does not come to its end: what it computes, and where it is.

Owns one thread that looks at a clock. It ends nothing: a slow step may still succeed, and whoever
reads the log knows better what to do. Must not know what a step is made of.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from vllm.logging import init_logger

logger = init_logger(__name__)

LOOKS = 4
"""How often the clock is read within the limit."""


class Watchdog:
    """Told by the loop when a step begins and ends; `describe` is asked when one takes too long.

    A `limit_s` of 0 watches nothing.
    """

    def __init__(
        self,
        limit_s: float,
        describe: Callable[[], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit_s, self._describe, self._clock = limit_s, describe, clock
        self._began: float | None = None
        self._reported = False
        self._thread_id = threading.get_ident()
        self._stopped = threading.Event()

    def start(self) -> None:
        """Watch the thread that calls this, from another one."""
        self._thread_id = threading.get_ident()
        if self._limit_s > 0:
            threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def begin(self) -> None:
        """A step begins now."""
        self._began = self._clock()

    def end(self) -> None:
        """The step has ended."""
        if self._reported and self._began is not None:
            logger.warning("the step ended after %.1f s", self._clock() - self._began)
        self._began, self._reported = None, False

    def check(self) -> None:
        """Report the step that is under way if it takes too long and that was not said yet."""
        began = self._began
        if began is None or self._reported or self._clock() - began < self._limit_s:
            return
        self._reported = True
        logger.error(
            "a step has not ended for %.1f s: %s; it is at %s",
            self._clock() - began,
            self._describe() or "its batch is not planned yet",
            self._place(),
        )

    def _place(self) -> str:
        frame = sys._current_frames().get(self._thread_id)
        if frame is None:
            return "an unknown place"
        where = traceback.extract_stack(frame)[-1]
        return f"{Path(where.filename).name}:{where.lineno} in {where.name}"

    def _run(self) -> None:
        while not self._stopped.wait(self._limit_s / LOOKS):
            self.check()
