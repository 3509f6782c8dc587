# SPDX-License-Identifier: Apache-2.0
"""Log lines on stderr, one per event, and the progress bar; text or JSON.

Owns the format of a line and nothing of its content. Every process calls `setup` once with its own
name (`supervisor`, `engine 0`, `frontend`), so that lines of several processes on one terminal stay
apart. Standard output is for data and stays free.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from vllm import envs

ROOT = "vllm"
_BAR_WIDTH = 30
_BAR_INTERVAL_S = 0.1


def init_logger(name: str) -> logging.Logger:
    """The logger of a module: `logger = init_logger(__name__)`, also of one run with `python
    -m`.
    """
    return logging.getLogger(name if name.partition(".")[0] == ROOT else f"{ROOT}.{name}")


def setup(process: str, form: str = "text", level: str | None = None) -> None:
    """Send this process's log lines to stderr in `form`; `level` defaults to VLLM_LOGGING_LEVEL."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JSONFormatter(process) if form == "json" else _TextFormatter(process))
    root = logging.getLogger(ROOT)
    root.handlers[:] = [handler]
    root.propagate = False
    root.setLevel((level or envs.VLLM_LOGGING_LEVEL).upper())


class _TextFormatter(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)-7s {process}: %(message)s", "%H:%M:%S")


class _JSONFormatter(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": record.created,
            "level": record.levelname.lower(),
            "process": self._process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["trace"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


@contextmanager
def phase(logger: logging.Logger, name: str) -> Iterator[None]:
    """Log `name` with its seconds when the block has ended well."""
    started = time.monotonic()
    yield
    logger.info("%s: %.1f s", name, time.monotonic() - started)


OnProgress = Callable[[str, float], None]
"""Told of a phase's name and how much of it is done, 0.0 to 1.0."""


class Progress:
    """A progress bar on a terminal; silent elsewhere. Call `update` as often as you like, then
    `close`.
    """

    def __init__(self, label: str, stream: TextIO | None = None) -> None:
        self._label = label
        self._stream = stream if stream is not None else sys.stderr
        self._shown = self._stream.isatty()
        self._last = 0.0

    def update(self, fraction: float) -> None:
        """Draw the bar at `fraction` (0..1), at most ten times a second."""
        now = time.monotonic()
        if not self._shown or now - self._last < _BAR_INTERVAL_S:
            return
        self._last = now
        part = min(max(fraction, 0.0), 1.0)
        filled = round(part * _BAR_WIDTH)
        bar = "#" * filled + "-" * (_BAR_WIDTH - filled)
        self._stream.write(f"\r{self._label} [{bar}] {part:4.0%}")
        self._stream.flush()

    def close(self) -> None:
        """Wipe the bar: the phase's own line follows."""
        if self._shown and self._last:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
