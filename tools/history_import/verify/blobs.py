# SPDX-License-Identifier: Apache-2.0
"""Point 13: what came in by weight, and under which licence and sign-off.

Owns the walk over new objects, which also proves that none is missing. Knows nothing of images.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import IO

from ..errors import GitFailed
from ..git import Repository, environment
from ..progress import Progress
from .evidence import Evidence
from .graph import Parts
from .result import Check, Point
from .trees import Trees

POINTER = b"version https://git-lfs.github.com/spec/v1\n"
POINTER_SIZES = range(len(POINTER), 1024)  # the pointer format's own limit
LICENCE = re.compile(rb"(licen[cs]e|copying)([._-].*)?", re.IGNORECASE | re.DOTALL)
SIGN_OFF = re.compile(rb"^Signed-off-by: (.*?)[ \t]*\r?$", re.MULTILINE | re.IGNORECASE)
ADDRESS = re.compile(rb"<([^<>]*)>")


def weight_and_rights(evidence: Evidence) -> Point:
    check = Check(13)
    _weigh(check, evidence)
    _licence(check, evidence)
    _sign_off(check, evidence)
    return check.point()


def new_objects(
    store: Repository, tips: Iterable[str], known: Iterable[str]
) -> Iterator[tuple[str, bytes, int]]:
    """Id, kind and size of everything reachable; kind `missing` where it is not there."""
    excluded = [f"^{oid}" for oid in known]
    walk = ["rev-list", "--objects", "--missing=print", "--no-object-names", *tips, *excluded]
    with tempfile.TemporaryFile() as said:
        walking = _start(store, [*walk, "--"], subprocess.DEVNULL, said)
        weighing = _start(store, ["cat-file", "--buffer", "--batch-check"], walking.stdout, said)
        assert walking.stdout and weighing.stdout
        walking.stdout.close()  # the other process has it
        for line in weighing.stdout:
            words = line.lstrip(b"?").split()
            yield words[0].decode(), words[1], int(words[2]) if len(words) > 2 else 0
        weighing.stdout.close()
        if weighing.wait() | walking.wait():
            said.seek(0)
            why = said.read().decode(errors="replace").strip()
            raise GitFailed(f"git rev-list --objects in {store.path} failed: {why}")


def _start(
    store: Repository, command: list[str], given: IO[bytes] | int | None, said: IO[bytes]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["git", *command],
        cwd=store.path,
        env=environment(),
        stdin=given,
        stdout=subprocess.PIPE,
        stderr=said,
    )


def _weigh(check: Check, evidence: Evidence) -> None:
    limit = evidence.rules.require.max_blob_bytes
    largest, small = ("", 0), []
    with Progress("objects weighed") as progress:
        for oid, kind, size in new_objects(evidence.store, *_range(evidence)):
            progress.advance()
            if kind == b"missing":
                check.wrong(f"object {oid[:12]} is missing in the host")
            if kind != b"blob":
                continue
            check.count("blobs")
            if limit and size > limit:
                check.wrong(f"blob {oid[:12]} has {size:,} bytes, the limit is {limit:,}")
            largest = max(largest, (oid, size), key=lambda pair: pair[1])
            if size in POINTER_SIZES:
                small.append(oid)
    check.counts["largest blob"] = largest[1]
    check.note(f"largest blob {largest[1]:,} bytes")
    check.counts["LFS pointers"] = pointers = _pointers(evidence.store, small)
    if pointers:
        check.note(f"{pointers:,} LFS pointers, whose content is elsewhere")


def _range(evidence: Evidence) -> tuple[list[str], list[str]]:
    """What the joins brought and the host did not have."""
    ends = [segment.images[-1] for segment in evidence.segments if segment.images]
    bases = [join.host for join in evidence.joins[:1] if not join.linear]
    bases += [segment.base for segment in evidence.segments if segment.base]
    return ends, [oid for oid in bases if oid not in ends and oid not in evidence.found]


def _pointers(store: Repository, oids: list[str]) -> int:
    with store.objects() as objects:
        return sum(data.startswith(POINTER) for _, _, data in objects.read_many(oids))


def _licence(check: Check, evidence: Evidence) -> None:
    source = evidence.source
    with evidence.source_store.objects() as objects:
        trees = Trees(objects)
        licensed = {tree: _has_licence(trees, tree) for tree in _root_trees(evidence)}
    having = [n for n, oid in enumerate(source.oids) if licensed[source.parts(oid).tree]]
    if not licensed[source.parts(source.oids[-1]).tree]:
        check.note("no licence file")
        if evidence.rules.require.license:
            check.wrong(f"source commit {source.oids[-1][:12]} has no licence file at its root")
        return
    check.counts["licence since"] = having[0] + 1
    check.note(f"licence since commit {having[0] + 1:,} of {len(source):,}")


def _root_trees(evidence: Evidence) -> set[str]:
    return {evidence.source.parts(oid).tree for oid in evidence.source.oids}


def _has_licence(trees: Trees, root: str) -> bool:
    return any(LICENCE.fullmatch(entry.name) for entry in trees.entries(root))


def _sign_off(check: Check, evidence: Evidence) -> None:
    """A commit's author must have signed it off; merges are not asked."""
    missing: Counter[bytes] = Counter()
    for oid in evidence.source.oids:
        parts = evidence.source.parts(oid)
        if len(parts.parents) < 2 and not signed_off(parts):
            missing[address(parts.author)] += 1
    total = missing.total()
    check.counts["without sign-off"] = total
    check.counts["authors without sign-off"] = len(missing)
    if not total:
        return
    people = f"{total:,} commits of {len(missing):,} authors without sign-off"
    if evidence.rules.require.dco == "strict":
        check.wrong(people)
    check.note(people)


def signed_off(parts: Parts) -> bool:
    mine = address(parts.author)
    return any(address(person) == mine for person in SIGN_OFF.findall(parts.message or b""))


def address(person: bytes) -> bytes:
    found = ADDRESS.search(person)
    return found[1].strip().lower() if found else b""
