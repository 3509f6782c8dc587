# SPDX-License-Identifier: Apache-2.0
"""How long property tests run: short in every run, longer by VLLM_FUZZ_FACTOR (`nox -s fuzz`)."""

from __future__ import annotations

import os

FACTOR = int(os.environ.get("VLLM_FUZZ_FACTOR", "1"))


def examples(count: int) -> int:
    """`count` cases, or as many times more as asked for."""
    return count * FACTOR
