# SPDX-License-Identifier: Apache-2.0
"""SIGINT, SIGTERM and SIGHUP (a closed terminal): the first asks for a graceful end, the second
ends everything now.

Must not know what is ended.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from vllm.errors import ExitCode

_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """Counts the signals; its descriptor becomes readable when one arrives."""

    def __init__(self) -> None:
        self.received: list[signal.Signals] = []
        self._on_second: Callable[[], None] | None = None
        self._interrupting = False
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def install(self) -> StopSignals:
        """Take over the signals of this process."""
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in _HANDLED:
            # nohup has SIGHUP ignored, and means it.
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)
        return self

    def fileno(self) -> int:
        return self._reader.fileno()

    @property
    def count(self) -> int:
        return len(self.received)

    @property
    def first_name(self) -> str:
        return self.received[0].name if self.received else "request"

    @property
    def exit_code(self) -> int:
        """0 after one signal; after a second one 128 + its number."""
        return 128 + self.received[1] if self.count > 1 else int(ExitCode.OK)

    @contextmanager
    def forced(self, now: Callable[[], None]) -> Iterator[None]:
        """Within the block a second signal calls `now`; at once if it has come already."""
        self._on_second = now
        if self.count > 1:
            now()
        try:
            yield
        finally:
            self._on_second = None

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Within the block, which may take long and owns no process, the first signal raises
        KeyboardInterrupt and the second one ends this process.
        """
        self._interrupting = True
        try:
            if self.count:
                raise KeyboardInterrupt
            yield
        finally:
            self._interrupting = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received.append(signal.Signals(number))
        if self._interrupting:
            if self.count > 1:
                os._exit(128 + number)
            raise KeyboardInterrupt
        if self.count > 1:
            if self._on_second is None and self.count > 2:
                os._exit(128 + number)  # something is stuck; the kernel ends the children
            if self._on_second is not None:
                self._on_second()
