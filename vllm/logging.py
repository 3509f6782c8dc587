# SPDX-License-Identifier: Apache-2.0
"""Log lines on stderr, one per event, and the progress bar; text or JSON.

Owns the format of a line and nothing of its content. Every process calls `setup` once with its own
name (`supervisor`, `engine 0`, `frontend`), so that lines of several processes on one terminal stay
apart. Standard output is for data and stays free. Nobody waits for the log's reader: see
`vllm.log_lines`.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TextIO

from vllm import envs
from vllm.log_lines import LineQueue, writer

ROOT = "vllm"
_BAR_WIDTH = 30
_BAR_INTERVAL_S = 0.1


def init_logger(name: str) -> logging.Logger:
    """The logger of a module: `logger = init_logger(__name__)`, also of one run with `python
    -m`.
    """
    return logging.getLogger(name if name.partition(".")[0] == ROOT else f"{ROOT}.{name}")


@dataclass
class Settings:
    """This process's name in its lines, empty in somebody else's program, and their form."""

    process: str = ""
    form: str = "text"


own = Settings()


def setup(process: str, form: str = "text", level: str | None = None) -> None:
    """Send this process's log lines to stderr in `form`; `level` defaults to VLLM_LOGGING_LEVEL."""
    own.process, own.form = process, form
    formatter = _JSONFormatter(process) if form == "json" else _TextFormatter(process)
    handler = _QueueHandler(sys.stderr, formatter)
    root = logging.getLogger(ROOT)
    for log in (root, logging.getLogger("py.warnings")):
        log.handlers[:] = [handler]
        log.propagate = False
    root.setLevel((level or envs.VLLM_LOGGING_LEVEL).upper())
    logging.captureWarnings(True)
    threading.excepthook = _tell_end_of_thread


def say(text: str) -> None:
    """A line for whoever looks at the terminal, in no form, by the same way as log lines."""
    _put(f"{text}\n")


def flush() -> None:
    """Give lines that wait a short time to be written."""
    for handler in logging.getLogger(ROOT).handlers:
        handler.flush()


def _put(text: str) -> None:
    for handler in logging.getLogger(ROOT).handlers:
        if isinstance(handler, _QueueHandler):
            handler.lines.put(text)
            return
    sys.stderr.write(text)
    sys.stderr.flush()


def _tell_end_of_thread(end: threading.ExceptHookArgs) -> None:
    if end.exc_type is not SystemExit and end.exc_value is not None:
        name = end.thread.name if end.thread else "unknown"
        trace = (end.exc_type, end.exc_value, end.exc_traceback)
        logging.getLogger(ROOT).error("thread %s ended by a bug", name, exc_info=trace)


class _QueueHandler(logging.Handler):
    """Puts lines into the queue before `stream`; `logging.shutdown` flushes it at exit."""

    def __init__(self, stream: TextIO, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.lines = LineQueue(writer(stream), self._confess)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.put(f"{self.format(record)}\n")

    def flush(self) -> None:
        self.lines.flush()

    def _confess(self, dropped: int) -> str:
        text = f"{dropped} log lines were dropped: nobody read them in time"
        record = logging.LogRecord(ROOT, logging.WARNING, "", 0, text, None, None)
        return f"{self.format(record)}\n"


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
        self._show(f"\r{self._label} [{bar}] {part:4.0%}")

    def close(self) -> None:
        """Wipe the bar: the phase's own line follows."""
        if self._shown and self._last:
            self._show("\r\x1b[K")

    def _show(self, text: str) -> None:
        if self._stream is sys.stderr:
            _put(text)
            return
        self._stream.write(text)
        self._stream.flush()
