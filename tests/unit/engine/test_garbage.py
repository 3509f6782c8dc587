# SPDX-License-Identifier: Apache-2.0
"""An engine's own process sets loaded objects aside from garbage collection; `LLM` leaves the
collector of the program around it alone.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.models import make_llama

PRINT = "import gc; print(gc.isenabled(), gc.get_freeze_count() > 100_000)"
IN_A_PROCESS = """
import sys
from vllm.engine.__main__ import build_core
core = build_core({"model": sys.argv[1]}, lambda phase, done: None)
"""
IN_A_PROGRAM = """
import sys
from vllm import LLM
llm = LLM(sys.argv[1])
"""


@pytest.mark.parametrize(
    ("program", "told"), [(IN_A_PROCESS, b"True True\n"), (IN_A_PROGRAM, b"True False\n")]
)
def test_who_decides_on_garbage(tmp_path: Path, program: str, told: bytes) -> None:
    command = [sys.executable, "-c", program + PRINT, str(make_llama(tmp_path))]
    assert subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout == told
