# SPDX-License-Identifier: Apache-2.0
"""Point 14: blame of every line and log of every file, as git answers them in both repositories.

Owns the questions to git and their comparison through the pairing. Knows nothing of trees' bytes
beyond which files there are.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
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
    aside = counts.get("files changed by the host", 0)
    aside += counts.get("files that the last join left as they were", 0)
    if aside:
        check.note(
            f"{aside:,} of them asked at the imported tip, which the last join did not bring"
        )
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
    there = Side(evidence.source_store, evidence.last.commit, b"")
    places = Places(check, evidence, known)
    sides = [places.of(path) for path in files]
    comparison = Comparison(check, evidence)
    with ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 2)) as pool:
        source, host = pool.map(there.file, files), pool.map(ask, sides, files)
        with Progress("blame and log", len(files)) as progress:
            for path, wanted, found in zip(files, source, host, strict=True):
                comparison.file(path, wanted, found)
                progress.advance()


def ask(side: Side, path: bytes) -> File | None:
    """Nothing where the file is not there."""
    try:
        return side.file(path)
    except GitFailed:
        name = os.fsdecode(side.commit.encode() + b":" + side.prefix + path)
        if side.store.code("cat-file", "-e", name):
            return None
        raise


class Places:
    """Where the host is asked: at the join, whenever the imported side brought the file to it.

    A later join may leave a file as the host's line already had it, or merge both sides' changes.
    Git then follows the host's line, rightly; the imported history is asked at its own tip.
    """

    def __init__(self, check: Check, evidence: Evidence, known: Trees) -> None:
        self.check, self.known = check, known
        self.prefix = evidence.prefix + b"/"
        join = evidence.last
        self.first = len(evidence.joins) == 1
        self.at_join = Side(evidence.store, join.through or join.oid, self.prefix)
        self.at_tip = Side(evidence.store, join.tip, self.prefix)
        with evidence.store.objects() as objects:
            self.before = objects.commit(join.host).tree
            self.image = objects.commit(join.tip).tree
            self.earlier = objects.commit(evidence.joins[-2].tip).tree if not self.first else ""
        self.joined = join.parts.tree

    def of(self, path: bytes) -> Side:
        full = self.prefix + path
        image = self.known.at(self.image, full)
        if self.first:
            return self.at_join
        before = self.known.at(self.before, full)
        if before != self.known.at(self.earlier, full) or self.known.at(self.joined, full) != image:
            self.check.count("files changed by the host")
            return self.at_tip
        if before == image:
            self.check.count("files that the last join left as they were")
            return self.at_tip
        return self.at_join


class Comparison:
    def __init__(self, check: Check, evidence: Evidence) -> None:
        self.check = check
        self.images = evidence.pairing.images

    def file(self, path: bytes, source: File, host: File | None) -> None:
        shown = repr(path.decode("utf-8", "backslashreplace"))
        if host is None:
            self.check.wrong(f"{shown} is not in the host")
            return
        self._lines(shown, source.lines, host.lines)
        self._log(f"log of {shown}", source.log, host.log)
        self._log(f"log --follow of {shown}", source.follow, host.follow)

    def _lines(self, shown: str, wanted: list[Line], found: list[Line]) -> None:
        self.check.count("lines", len(wanted))
        mapped = [(self.images.get(oid, ""), path, number) for oid, path, number in wanted]
        both = enumerate(zip(mapped, found, strict=False))
        wrong = [number for number, (mine, theirs) in both if mine != theirs]
        equal = min(len(mapped), len(found)) - len(wrong)
        self.check.count("lines equal", equal)
        if wrong or len(mapped) != len(found):
            line = wrong[0] if wrong else min(len(mapped), len(found))
            there = found[line][0][:12] if line < len(found) else "nothing"
            commit = wanted[line][0][:12] if line < len(wanted) else "nothing"
            self.check.wrong(
                f"{shown} line {line + 1} is blamed on {there}, in the source on {commit}"
            )

    def _log(self, what: str, wanted: list[str], found: list[str]) -> None:
        self.check.count("logs")
        mapped = [self.images.get(oid, "") for oid in wanted]
        if mapped == found:
            self.check.count("logs equal")
            return
        both = zip(mapped, found, strict=False)
        at = next((n for n, (a, b) in enumerate(both) if a != b), min(len(mapped), len(found)))
        commit = found[at][:12] if at < len(found) else "nothing"
        self.check.wrong(f"{what}: entry {at + 1} of {len(wanted)} is {commit}")
