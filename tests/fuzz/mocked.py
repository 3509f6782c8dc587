# SPDX-License-Identifier: Apache-2.0
"""The built frontend with the engine double behind it, which must outlive what it is asked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.e2e.doubles import double_binary
from tests.e2e.loopback import before_a_double


@contextlib.contextmanager
def frontend(binary: Path, model: str, double: Sequence[str], logs: Path) -> Iterator[str]:
    """The URL of a frontend that is ready; `double` are options of the engine double."""
    double_binary()
    with before_a_double(binary, model, double, logs) as (url, process, _):
        yield url
        log = (logs / f"{binary.name}.log").read_text()
        assert process.poll() is None, f"the frontend ended: {log[-3000:]}"
