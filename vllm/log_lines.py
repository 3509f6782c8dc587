# SPDX-License-Identifier: Apache-2.0
"""Log lines on their way to stderr, written by a thread of their own.

Whoever logs never waits for the reader of the log: lines that find no room in the queue are dropped
and counted, and the log tells how many once its reader goes on. Must not know the form of a line.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TextIO

MOST_LINES = 4096
"""Lines that may wait: some hundred kilobytes."""
LAST_WORDS_S = 0.5
"""At the end of the process, for lines that are still to be written."""


class LineQueue:
    """Lines that wait to be written by `write`; `confess` words how many were dropped.

    Safe to use from signal handlers: nothing here takes a lock that the interrupted code may hold.
    """

    def __init__(self, write: Callable[[str], None], confess: Callable[[int], str]) -> None:
        self.dropped = 0
        self._write, self._confess = write, confess
        self._waiting: SimpleQueue[str | threading.Event] = SimpleQueue()
        threading.Thread(target=self._write_all, name="log", daemon=True).start()

    def put(self, text: str) -> None:
        """Take a text, line end included, if there is room."""
        if self._waiting.qsize() >= MOST_LINES:
            self.dropped += 1
        else:
            self._waiting.put(text)

    def flush(self, seconds: float = LAST_WORDS_S) -> None:
        """Wait until what was put is written, no longer than `seconds`."""
        written = threading.Event()
        self._waiting.put(written)
        written.wait(seconds)

    def _write_all(self) -> None:
        told = 0
        while True:
            text = self._waiting.get()
            if isinstance(text, threading.Event):
                text.set()
                continue
            if not self._is_written(text):
                self.dropped += 1
                continue
            dropped = self.dropped
            if dropped > told and self._is_written(self._confess(dropped - told)):
                told = dropped

    def _is_written(self, text: str) -> bool:
        try:
            self._write(text)
        except (OSError, ValueError):  # ValueError: the stream was closed
            return False
        return True


def writer(stream: TextIO) -> Callable[[str], None]:
    """Writes texts to `stream`, by its descriptor where it has one.

    The interpreter takes the stream's own lock when it ends; a thread that a reader holds up must
    not have it.
    """
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # a stream of a test
        return lambda text: _write_stream(stream, text)
    return lambda text: _write_descriptor(descriptor, text.encode(errors="backslashreplace"))


def _write_stream(stream: TextIO, text: str) -> None:
    stream.write(text)
    stream.flush()


def _write_descriptor(descriptor: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:  # another program made the terminal or pipe non-blocking
            poller = select.poll()
            poller.register(descriptor, select.POLLOUT)
            poller.poll()


def open_standard_streams() -> None:
    """Open what was closed at the start among descriptors 0 to 2 on /dev/null.

    Otherwise the next socket gets such a number, and log lines go into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            os.dup2(opened, number)  # children inherit it
            if opened != number:
                os.close(opened)
            else:
                os.set_inheritable(number, True)
    sys.stdin = sys.stdin or os.fdopen(0, "r")
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")
