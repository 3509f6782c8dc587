# SPDX-License-Identifier: Apache-2.0
"""The GPU benchmark compares like with like: both sides of each case agree (here on the CPU)."""

from __future__ import annotations

import pytest
import torch

from benchmarks.gpu.cases import SMALL, Case, all_cases


@pytest.mark.parametrize("case", list(all_cases(SMALL)), ids=lambda case: case.name)
def test_both_sides_compute_the_same(case: Case) -> None:
    torch.manual_seed(0)
    assert case.error() < (0.01 if not case.exact else 1e-9)
