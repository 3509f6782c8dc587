# SPDX-License-Identifier: Apache-2.0
"""Named places where the crash test ends the process; costs one look-up otherwise.

`HISTORY_IMPORT_KILL_AT=NAME` (or `NAME:2` for the second time the place is passed) ends the process
with SIGKILL there; `HISTORY_IMPORT_STEPS_LOG=FILE` appends each place passed, for the test to
enumerate. Knows nothing of what happens at a step.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

KILL_AT = "HISTORY_IMPORT_KILL_AT"
STEPS_LOG = "HISTORY_IMPORT_STEPS_LOG"

_passed: Counter[str] = Counter()


def at(name: str) -> None:
    _passed[name] += 1
    visit = name if _passed[name] == 1 else f"{name}:{_passed[name]}"
    if log := os.environ.get(STEPS_LOG):
        with Path(log).open("a") as lines:
            lines.write(visit + "\n")
    if os.environ.get(KILL_AT) == visit:
        os.kill(os.getpid(), signal.SIGKILL)
