# SPDX-License-Identifier: Apache-2.0
"""What verify answers: sixteen points, each proved, failed or not checked, and the lines to print.

Owns the points' names and how they are shown. Knows nothing of how a point is proved.
"""

from __future__ import annotations

from dataclasses import dataclass, field

NAMES = {
    1: "every source commit has one image",
    2: "parents",
    3: "trees",
    4: "nothing outside the prefix",
    5: "authors and committers",
    6: "messages",
    7: "recomputed ids",
    8: "the host's own line",
    9: "the prefix at the merge",
    10: "earlier imports",
    11: "no submodule remnant",
    12: "signatures",
    13: "blobs, licence and sign-off",
    14: "blame and log",
    15: "ignored revisions",
    16: "refs",
}
SHOWN = 3
KEPT = 20


@dataclass(frozen=True)
class Point:
    number: int
    name: str
    ok: bool | None  # None: not checked, and the detail says why
    detail: str
    counts: dict[str, int] = field(default_factory=dict)
    findings: tuple[str, ...] = ()

    def line(self) -> str:
        word = {True: "ok", False: "FAILED", None: "not checked"}[self.ok]
        return f"{self.number:2} {self.name:34} {word:11} {self.detail}".rstrip()


class Check:
    """Collects what is wrong with one point; what is not wrong by the end is proved."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.wrongs = 0
        self.counts: dict[str, int] = {}
        self.notes: list[str] = []
        self._findings: list[str] = []

    def wrong(self, finding: str) -> None:
        self.wrongs += 1
        if len(self._findings) < KEPT:
            self._findings.append(finding)

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + number

    def note(self, text: str) -> None:
        self.notes.append(text)

    def point(self, proved: str = "") -> Point:
        name, findings = NAMES[self.number], tuple(self._findings)
        if self.wrongs:
            more = f" (and {self.wrongs - 1:,} more)" if self.wrongs > 1 else ""
            return Point(self.number, name, False, findings[0] + more, self.counts, findings)
        detail = "; ".join([proved, *self.notes] if proved else self.notes)
        return Point(self.number, name, True, detail, self.counts)


def unchecked(number: int, why: str) -> Point:
    return Point(number, NAMES[number], None, why)


@dataclass(frozen=True)
class VerifyResult:
    name: str
    ref: str
    tip: str
    imports: tuple[str, ...]  # the joins found, oldest first
    points: tuple[Point, ...]
    squashed: str = ""  # where the content is without its history

    @property
    def ok(self) -> bool:
        return not self.squashed and all(point.ok is not False for point in self.points)

    @property
    def exit_code(self) -> int:
        return 0 if self.ok else 1

    def find(self, number: int) -> Point:
        return next(point for point in self.points if point.number == number)

    def failed(self) -> list[int]:
        return [point.number for point in self.points if point.ok is False]

    @property
    def summary(self) -> str:
        """The counts in one line: what `import` prints of a proof."""
        shares = [
            (1, "images", "commits", "commits"),
            (3, "equal", "trees", "trees"),
            (5, "equal", "people", "people"),
            (14, "lines equal", "lines", "lines"),
            (14, "logs equal", "logs", "logs"),
        ]
        texts = []
        for number, part, whole, word in shares:
            counts = self.find(number).counts
            if whole in counts:
                texts.append(f"{counts.get(part, 0):,}/{counts[whole]:,} {word}")
        return ", ".join(texts)

    def lines(self) -> list[str]:
        shown = [f"verify   {self.name} in {self.ref} at {self.tip[:12]}"]
        shown += [f"import   {line}" for line in self.imports]
        for point in self.points:
            shown.append(point.line())
            shown += [f"   {finding}" for finding in point.findings[1:SHOWN]]
        if self.squashed.startswith("rebased"):
            shown.append("next     no rescue mends a rebase: see \"Rebased by mistake\" in "
                         "docs/guides/history-import.md")  # fmt: skip
            return shown
        if self.squashed:
            shown.append(f"squashed {self.squashed}")
            shown.append("next     history-import rescue gives the history back by one replace ref")
            return shown
        failed = ", ".join(map(str, self.failed()))
        return [*shown, f"FAILED   points {failed}" if failed else "proved"]
