# SPDX-License-Identifier: Apache-2.0
"""A step ends the process only when asked, and at the visit asked for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

PROGRAM = "from tools.history_import.steps import at; at('a'); at('a'); print('after')"


def run(**environ: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.run(command, env=os.environ | environ, capture_output=True, check=False)


def test_nothing_happens_unless_asked() -> None:
    assert run().stdout == b"after\n"


def test_the_second_visit_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = run(HISTORY_IMPORT_KILL_AT="a:2", HISTORY_IMPORT_STEPS_LOG=str(log))
    assert done.returncode == -signal.SIGKILL
    assert log.read_text() == "a\na:2\n"
