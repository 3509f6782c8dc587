# SPDX-License-Identifier: Apache-2.0
"""How many silent turns an engine has."""

from __future__ import annotations

import pytest

from vllm.protocol.silence import TURNS, Patience, Pulse


@pytest.mark.parametrize(
    ("prompting", "turns"), [(False, TURNS + 1), (True, 10 * TURNS + 1)], ids=["decode", "prompt"]
)
def test_an_engine_is_lost_after_its_limit_and_asked_once(prompting: bool, turns: int) -> None:
    patience, pulse = Patience(silence=6.0, prompt=60.0), Pulse()
    looks, questions = 0, 0
    while not pulse.look(patience, prompting):
        looks += 1
        questions += pulse.is_to_be_asked
    assert (looks + 1, questions) == (turns, 1)
    pulse.beat()
    assert not pulse.look(patience, prompting)
    assert pulse.is_to_be_asked


def test_a_prompt_never_shortens_the_limit() -> None:
    assert Patience(silence=6.0, prompt=1.0).limit(prompting=True) == 6.0
