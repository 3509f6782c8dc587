# SPDX-License-Identifier: Apache-2.0
"""Counts on the terminal for anything that takes over two seconds; silent elsewhere.

Writes to stderr only, and only to a terminal. Knows nothing of what is counted.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType

PATIENCE_S = 2.0
BETWEEN_S = 0.2


class Progress:
    """`with Progress("blame", 269) as files: ... files.advance()`."""

    def __init__(self, what: str, total: int = 0) -> None:
        self.what, self.total, self.done = what, total, 0
        self._next = time.monotonic() + PATIENCE_S
        self._shown = False
        self._enabled = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    def advance(self, count: int = 1) -> None:
        self.done += count
        if self._enabled and time.monotonic() >= self._next:
            self._show()

    def say(self, text: str) -> None:
        """Another program's own words in place of a count."""
        if self._enabled and time.monotonic() >= self._next:
            self._write(text)

    def _show(self) -> None:
        total = f"/{self.total:,}" if self.total else ""
        self._write(f"{self.done:,}{total}")

    def _write(self, text: str) -> None:
        sys.stderr.write(f"\r\033[K{self.what}  {text}")
        sys.stderr.flush()
        self._shown = True
        self._next = time.monotonic() + BETWEEN_S
