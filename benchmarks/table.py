# SPDX-License-Identifier: Apache-2.0
"""Figures with their spread, and the Markdown table they become."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import Any


class Samples(dict[str, list[float]]):
    """Figures by name, one a repeat."""

    def add(self, name: str, value: float) -> None:
        self.setdefault(name, []).append(value)

    def add_all(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.add(name, value)


@dataclass(frozen=True)
class Goal:
    """What a figure that is better lower must stay at or below, and what it aims at.

    Both are ratios to the peer's figure, or figures themselves where `absolute`.
    """

    must: float
    aim: float | None = None
    absolute: bool = False

    def __str__(self) -> str:
        unit = "" if self.absolute else "x"
        texts = [f"{limit:,g}{unit}" for limit in (self.must, self.aim) if limit is not None]
        return " / ".join(texts)

    def met(self, value: float) -> str:
        """`aim`, `must` or `no`: the lowest limit that the value keeps to."""
        if self.aim is not None and value <= self.aim:
            return "aim"
        return "must" if value <= self.must else "**no**"


@dataclass(frozen=True)
class Row:
    """One figure of ours and, taken in the same run, of the peer's. `better`: higher or lower."""

    name: str
    unit: str
    ours: list[float]
    peer: list[float] | None
    better: str
    goal: Goal | None = None

    @property
    def ratio(self) -> float | None:
        """Median of ours over median of the peer's; below 1 is good where lower is better."""
        if not self.peer:
            return None
        return statistics.median(self.ours) / statistics.median(self.peer)

    @property
    def met(self) -> str:
        """Which of its goal's limits the row keeps to; `-` where there is none, or no peer."""
        if self.goal is None:
            return "-"
        value = statistics.median(self.ours) if self.goal.absolute else self.ratio
        return "-" if value is None else self.goal.met(value)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"ratio": self.ratio}


def spread(values: list[float] | None) -> str:
    """`median (lowest-highest)` in three significant digits, `-` where nothing was measured."""
    if not values:
        return "-"
    numbers = [f"{value:.3g}" if value < 1000 else f"{value:,.0f}" for value in values]
    middle = statistics.median(values)
    text = f"{middle:.3g}" if middle < 1000 else f"{middle:,.0f}"
    if len(values) == 1:
        return text
    ordered = [n for _, n in sorted(zip(values, numbers, strict=True))]
    return f"{text} ({ordered[0]}-{ordered[-1]})"


def markdown(rows: list[Row], peer: str) -> str:
    """A table of all rows; ratio is ours over the peer's. Goals are shown where a row has one."""
    goals = any(row.goal for row in rows)
    head = ["work", "unit", "ours", peer, f"ours / {peer}", "better"]
    marks = ["---", "---", "---:", "---:", "---:", "---"]
    if goals:
        head, marks = [*head, "must / aim", "met"], [*marks, "---", "---"]
    lines = [head, marks]
    for row in rows:
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        cells = [row.name, row.unit, spread(row.ours), spread(row.peer), ratio, row.better]
        lines.append([*cells, str(row.goal or "-"), row.met] if goals else cells)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
