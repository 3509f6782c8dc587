# SPDX-License-Identifier: Apache-2.0
"""The limit of open descriptors, in a process of its own: a lowered hard limit cannot be raised."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from vllm.cli.descriptors import raise_limit
soft, hard = int(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(raise_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize("soft", [64, 256])
def test_the_soft_limit_becomes_the_hard_one_and_children_inherit_it(soft: int) -> None:
    words = [sys.executable, "-c", PROGRAM, str(soft), "256"]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == (
        "256 256 256\n"
    )
