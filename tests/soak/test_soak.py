# SPDX-License-Identifier: Apache-2.0
"""The short forms of `nox -s soak`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.models import make_llama
from tests.soak.real import Soak
from tests.soak.simulated import Traffic


@pytest.mark.parametrize("seed", range(2))
def test_simulated_traffic(seed: int) -> None:
    """From midnight, two rushes included."""
    traffic = Traffic(seed)
    tally = traffic.run(4000)
    assert tally.finished > 500
    assert tally.aborted > 20
    assert tally.found > 10_000
    assert traffic.engine.num_preemptions > 0


def test_real_traffic(tmp_path: Path) -> None:
    outcome = Soak(make_llama(tmp_path), 128, seed=2).run(4.0)
    assert outcome.finished > 5
    assert outcome.tokens > 100
