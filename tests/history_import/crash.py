# SPDX-License-Identifier: Apache-2.0
"""A verb ended by SIGKILL at a named step, in a process of its own that costs only a fork."""

from __future__ import annotations

import os
import signal
import traceback
from pathlib import Path

from tools.history_import import steps

from . import kit

SURVIVED = 99


def passed(case: kit.Case, verb: str, log: Path) -> list[str]:
    """The steps of a whole run, in order."""
    status = _forked(case, verb, {steps.STEPS_LOG: str(log)})
    assert os.waitstatus_to_exitcode(status) == SURVIVED
    return log.read_text().splitlines()


def killed(case: kit.Case, verb: str, step: str) -> None:
    status = _forked(case, verb, {steps.KILL_AT: step})
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, f"{step} was not reached"


def _forked(case: kit.Case, verb: str, environ: dict[str, str]) -> int:
    child = os.fork()
    if child == 0:
        try:
            os.environ.update(environ)
            steps._passed.clear()
            code = case.run(verb).code
            os._exit(SURVIVED if code == 0 else code)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]
