# SPDX-License-Identifier: Apache-2.0
"""Point 14: blame of every line and log of every file, as git answers them in both repositories.

Owns the questions to git and their comparison through the pairing. Knows nothing of trees' bytes
beyond which files there are.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ..errors import GitFailed
from ..git import Repository
from ..progress import Progress
from .evidence import Evidence
from .result import Check, Point, unchecked
from .trees import Trees

# Up to here every file is asked for; a question costs a process that walks the file's history.
FULL_FILES, FULL_COMMITS = 2_000, 5_000
SAMPLE_FILES = 10

Line = tuple[str, bytes, int]  # commit, path there, line there


@dataclass(frozen=True)
class File:
    """What one repository says of a file."""

    lines: list[Line]
    log: list[str]
    follow: list[str]


@dataclass(frozen=True)
class Side:
    store: Repository
    commit: str
    prefix: bytes

    def file(self, path: bytes) -> File:
        full = self.prefix + path
        return File(self.blame(full), self.log(full), self.log(full, b"--follow"))

    def ask(self, *words: str | bytes) -> bytes:
        # Nothing from attributes or earlier configuration may skip, follow or reorder.
        return self.store.git("--literal-pathspecs", "-c", "log.follow=false", *words)

    def blame(self, path: bytes) -> list[Line]:
        said = self.ask("blame", "--incremental", self.commit, "--", path)
        return parse_blame(said, len(self.prefix))

    def log(self, path: bytes, *options: bytes) -> list[str]:
        said = self.ask("log", "--format=%H", *options, self.commit, "--", path)
        return said.decode("ascii").split()


def parse_blame(said: bytes, cut: int) -> list[Line]:
    """`ID LINE-THERE LINE-HERE COUNT`, then headers up to `filename PATH`, which ends a group."""
    spans: list[tuple[int, int, int, str, bytes]] = []
    words: list[bytes] = []
    for row in said.split(b"\n"):
        if not words:
            words = row.split()
        elif row.startswith(b"filename "):
            there, here, count = map(int, words[1:4])
            path = unquoted(row[9:])[cut:]
            spans.append((here, there, count, words[0].decode("ascii"), path))
            words = []
    spans.sort()
    return [(oid, path, there + n) for _, there, count, oid, path in spans for n in range(count)]


def unquoted(path: bytes) -> bytes:
    """Git quotes a name that has a quote, a backslash or a control character in it."""
    if not path.startswith(b'"'):
        return path
    text = path[1:-1].decode("latin-1")
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1")


def blame_and_log(evidence: Evidence, known: Trees, wanted: bool, sample: int | None) -> Point:
    if not wanted:
        return unchecked(14, "left out on request (--no-blame)")
    if evidence.last.commit not in evidence.pairing.images:
        return unchecked(14, "the source's tip has no image, see point 1")
    check = Check(14)
    files = sorted(_files(evidence))
    chosen = _choose(files, len(evidence.source), sample, evidence.last.commit)
    _compare_all(check, evidence, known, chosen)
    if len(chosen) < len(files):
        check.note(f"{len(chosen):,} of {len(files):,} files drawn: over {FULL_FILES:,} files or "
                   f"{FULL_COMMITS:,} commits, or asked for")  # fmt: skip
    counts = check.counts
    return check.point(f"{counts.get('lines equal', 0):,}/{counts.get('lines', 0):,} lines, "
                       f"{counts.get('logs equal', 0):,}/{counts.get('logs', 0):,} logs of "
                       f"{len(chosen):,} files")  # fmt: skip


def _files(evidence: Evidence) -> Iterator[bytes]:
    with evidence.source_store.objects() as objects:
        tree = evidence.source.parts(evidence.last.commit).tree
        for path, entry in Trees(objects).files(tree):
            if not entry.is_gitlink:
                yield path


def _choose(files: list[bytes], commits: int, sample: int | None, seed: str) -> list[bytes]:
    small = len(files) <= FULL_FILES and commits <= FULL_COMMITS
    size = len(files) if sample is None and small else sample or SAMPLE_FILES
    return files if size >= len(files) else sorted(random.Random(seed).sample(files, size))


def _compare_all(check: Check, evidence: Evidence, known: Trees, files: list[bytes]) -> None:
    join = evidence.last
    there = Side(evidence.source_store, join.commit, b"")
    here = Side(evidence.store, join.oid, evidence.prefix + b"/")
    comparison = Comparison(check, evidence, known)
    with ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 2)) as pool:
        asked = zip(
            files, pool.map(asking(there), files), pool.map(asking(here), files), strict=True
        )
        with Progress("blame and log", len(files)) as progress:
            for path, source, host in asked:
                comparison.file(path, source, host)
                progress.advance()


def asking(side: Side) -> Callable[[bytes], File | None]:
    """Nothing where the file is not there (any more)."""

    def ask(path: bytes) -> File | None:
        try:
            return side.file(path)
        except GitFailed:
            if side.store.code(
                "cat-file", "-e", os.fsdecode(b":".join([side.commit.encode(), side.prefix + path]))
            ):
                return None
            raise

    return ask


class Comparison:
    def __init__(self, check: Check, evidence: Evidence, known: Trees) -> None:
        self.check, self.evidence, self.known = check, evidence, known
        self.images = evidence.pairing.images
        self.imported = set(evidence.found.oids)
        self.first = len(evidence.joins) == 1
        self.image_tree = evidence.found.parts(self.images[evidence.last.commit]).tree

    def file(self, path: bytes, source: File | None, host: File | None) -> None:
        shown = repr(path.decode("utf-8", "backslashreplace"))
        if source is None or host is None or self._changed_by_host(path):
            self._not_the_sources(shown, source, host)
            return
        self._lines(shown, source.lines, host.lines)
        self._log(f"log of {shown}", source.log, host.log)
        self._log(f"log --follow of {shown}", source.follow, host.follow)

    def _changed_by_host(self, path: bytes) -> bool:
        full = self.evidence.prefix + b"/" + path
        join = self.evidence.last.parts.tree
        return self.known.at(join, full) != self.known.at(self.image_tree, full)

    def _not_the_sources(self, shown: str, source: File | None, host: File | None) -> None:
        """After a first import there is no such file; later the host may have its own version."""
        if self.first or source is None:
            self.check.wrong(f"{shown} is not the source's file at the join")
        self.check.count("files changed by the host")

    def _lines(self, shown: str, wanted: list[Line], found: list[Line]) -> None:
        self.check.count("lines", len(wanted))
        mapped = [(self.images.get(oid, ""), path, number) for oid, path, number in wanted]
        wrong = [
            n for n, pair in enumerate(zip(mapped, found, strict=False)) if not self._same(*pair)
        ]
        self.check.count("lines equal", len(wanted) - len(wrong))
        if wrong or len(mapped) != len(found):
            line = wrong[0] if wrong else min(len(mapped), len(found))
            there = found[line][0][:12] if line < len(found) else "nothing"
            commit = wanted[line][0][:12] if line < len(wanted) else "nothing"
            self.check.wrong(
                f"{shown} line {line + 1} is blamed on {there}, in the source on {commit}"
            )

    def _same(self, wanted: Line, found: Line) -> bool:
        """A line that the host wrote first and the source later has too is the host's."""
        return wanted == found or (not self.first and self._hosts_own(found[0]))

    def _hosts_own(self, oid: str) -> bool:
        return oid not in self.imported and oid not in {join.oid for join in self.evidence.joins}

    def _log(self, what: str, wanted: list[str], found: list[str]) -> None:
        self.check.count("logs")
        mapped = [self.images.get(oid, "") for oid in wanted]
        there = found if self.first else [oid for oid in found if oid in self.imported]
        if mapped == there or (not self.first and sorted(mapped) == sorted(there)):
            self.check.count("logs equal")
            return
        both = zip(mapped, there, strict=False)
        at = next((n for n, (a, b) in enumerate(both) if a != b), min(len(mapped), len(there)))
        commit = there[at][:12] if at < len(there) else "nothing"
        self.check.wrong(f"{what}: entry {at + 1} of {len(wanted)} is {commit}")
