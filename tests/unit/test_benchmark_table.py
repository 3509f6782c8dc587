# SPDX-License-Identifier: Apache-2.0
"""Rows of the benchmark tables say what they must reach, and whether they do."""

import pytest

from benchmarks.instructions import total
from benchmarks.table import Goal, Row, markdown


@pytest.mark.parametrize(
    ("ours", "met"), [(3.0, "aim"), (4.0, "must"), (4.5, "must"), (4.6, "**no**")]
)
def test_a_ratio_is_held_against_its_goal(ours: float, met: str) -> None:
    row = Row("work", "us", [ours], [10.0], "lower", Goal(0.45, 0.3))
    assert row.met == met
    assert row.as_dict()["goal"] == {"must": 0.45, "aim": 0.3, "absolute": False}


def test_an_absolute_goal_needs_no_peer() -> None:
    row = Row("work", "instructions", [9_000.0], None, "lower", Goal(12_000, 6_000, absolute=True))
    assert row.met == "must"
    assert Row("work", "us", [9.0], None, "lower", Goal(0.5)).met == "-"


def test_goals_are_columns_where_a_row_has_one() -> None:
    plain = Row("a", "us", [1.0], [2.0], "lower")
    goal = Row("b", "us", [1.0, 3.0, 2.0], [2.0], "lower", Goal(0.5, 0.25))
    assert markdown([plain], "peer").splitlines()[-1] == "| a | us | 1 | 2 | 0.50 | lower |"
    assert markdown([plain, goal], "peer").splitlines() == [
        "| work | unit | ours | peer | ours / peer | better | must / aim | met |",
        "| --- | --- | ---: | ---: | ---: | --- | --- | --- |",
        "| a | us | 1 | 2 | 0.50 | lower | - | - |",
        "| b | us | 2 (1-3) | 2 | 1.00 | lower | 0.5x / 0.25x | **no** |",
    ]


def test_the_total_of_a_callgrind_file_is_read() -> None:
    assert total("events: Ir\nfn=(1) main\n1 20\n\ntotals: 1234\n") == 1234
    assert total("events: Ir\nsummary: 77\n\n") == 77
    with pytest.raises(SystemExit):
        total("events: Ir\n")
