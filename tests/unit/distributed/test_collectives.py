# SPDX-License-Identifier: Apache-2.0
"""Gloo's threads end with the object that owns them, and before the interpreter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.distributed import HashStore

from vllm.distributed.collectives import Collectives

ENDING = """
import atexit
from pathlib import Path

threads = lambda: len(list(Path("/proc/self/task").iterdir()))
# Before all others, and so called after them, the last while there is an interpreter.
atexit.register(lambda: print(threads() - before))

import torch
from torch.distributed import HashStore
from vllm.distributed.collectives import Collectives

before = threads()
alone = Collectives(0, 1, HashStore(), torch.device("cpu"), "127.0.0.1")
alone.all_reduce(torch.ones(2))
assert threads() > before
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process its threads")


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def test_threads_end_with_their_owner() -> None:
    before = threads()
    alone = Collectives(0, 1, HashStore(), torch.device("cpu"), "127.0.0.1")
    alone.all_reduce(torch.ones(2))
    assert threads() > before
    del alone
    assert threads() == before


def test_threads_end_before_the_interpreter() -> None:
    told = subprocess.run([sys.executable, "-c", ENDING], stdout=subprocess.PIPE, check=True).stdout
    assert told == b"0\n"
