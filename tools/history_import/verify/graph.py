# SPDX-License-Identifier: Apache-2.0
"""Commits as raw bytes, parents first, and who is whose ancestor.

Owns the taking apart of a commit object. Knows nothing of imports.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from typing import NamedTuple

from ..errors import GitFailed
from ..git import Repository
from ..progress import Progress

HEADER_END = re.compile(rb"\n(?! )")  # a continuation line begins with a space


class Parts(NamedTuple):
    """A commit taken apart so that putting it together gives the same bytes."""

    tree: str
    parents: tuple[str, ...]
    author: bytes  # the whole lines, keys included
    committer: bytes
    extra: tuple[bytes, ...]  # further headers as they are stored, continuation lines included
    message: bytes | None  # None: the object ends with its headers

    def header(self, key: bytes) -> bytes | None:
        return next((line for line in self.extra if key_of(line) == key), None)


def key_of(header: bytes) -> bytes:
    return header.partition(b" ")[0]


def split(raw: bytes) -> Parts:
    head, blank, message = raw.partition(b"\n\n")
    lines = HEADER_END.split(head if blank else head.removesuffix(b"\n"))
    tree, parents, people, extra = "", [], {}, []
    for line in lines:
        key, _, value = line.partition(b" ")
        if key == b"tree" and not tree:
            tree = value.decode("ascii", "replace")
        elif key == b"parent":
            parents.append(value.decode("ascii", "replace"))
        elif key in (b"author", b"committer") and key not in people:
            people[key] = line
        else:
            extra.append(line)
    author, committer = people.get(b"author", b""), people.get(b"committer", b"")
    return Parts(tree, tuple(parents), author, committer, tuple(extra), message if blank else None)


def assemble(parts: Parts) -> bytes:
    lines = [b"tree " + parts.tree.encode()]
    lines += [b"parent " + parent.encode() for parent in parts.parents]
    lines += [parts.author, parts.committer, *parts.extra]
    end = b"\n" if parts.message is None else b"\n\n" + parts.message
    return b"\n".join(lines) + end


def object_id(kind: bytes, data: bytes) -> str:
    return hashlib.sha1(b"%s %d\0" % (kind, len(data)) + data).hexdigest()


class History:
    """Some commits, parents first, with their bytes."""

    def __init__(self, oids: list[str], raw: dict[str, bytes]) -> None:
        self.oids = oids
        self.raw = raw
        self.position = {oid: number for number, oid in enumerate(oids)}

    def __contains__(self, oid: str) -> bool:
        return oid in self.position

    def __len__(self) -> int:
        return len(self.oids)

    def parts(self, oid: str) -> Parts:
        return split(self.raw[oid])


def read(repository: Repository, *tips: str) -> History:
    """All ancestors of the tips; every object must have the id it is known by."""
    listed = repository.git("rev-list", "--topo-order", "--reverse", *tips, "--")
    return read_these(repository, listed.decode().split())


def read_these(repository: Repository, oids: list[str]) -> History:
    raw = {}
    with repository.objects() as objects, Progress("commits read", len(oids)) as progress:
        for oid, (found, kind, data) in zip(oids, objects.read_many(oids), strict=True):
            progress.advance()
            if kind != b"commit" or object_id(kind, data) != oid:
                raise GitFailed(f"object {found} is not the commit its id promises", "run git fsck")
            raw[oid] = data
    return History(oids, raw)


class Ancestry:
    """Is one commit an ancestor of another? Commits are cut into chains of first parents.

    On one chain the answer is a comparison of positions; only the way from chain to chain is
    walked, and never below the position that is looked for.
    """

    def __init__(self, history: History) -> None:
        self.history = history
        self.parents: list[list[int]] = []
        for oid in history.oids:
            positions = map(history.position.get, history.parts(oid).parents)
            self.parents.append([at for at in positions if at is not None])
        self.chain = self._chains()
        self._sorted = sorted(history.oids)

    def _chains(self) -> list[int]:
        chain = [-1] * len(self.parents)
        for at in range(len(chain) - 1, -1, -1):
            if chain[at] < 0:
                chain[at] = at
            first = self.parents[at][:1]
            if first and chain[first[0]] < 0:
                chain[first[0]] = chain[at]
        return chain

    def is_ancestor(self, earlier: str, later: str) -> bool:
        """Strictly: no commit is its own ancestor."""
        goal, start = self.history.position[earlier], self.history.position[later]
        if goal >= start:
            return False
        waiting, seen = [start], {start}
        while waiting:
            at = waiting.pop()
            if self.chain[at] == self.chain[goal]:
                return True  # positions below the goal are never visited
            for parent in self.parents[at]:
                if parent >= goal and parent not in seen:
                    seen.add(parent)
                    waiting.append(parent)
        return False

    def abbreviated(self, prefix: str, carrier: str) -> str | None:
        """The one ancestor of `carrier` whose id begins so."""
        found = None
        at = bisect_left(self._sorted, prefix)
        while at < len(self._sorted) and self._sorted[at].startswith(prefix):
            if self.is_ancestor(self._sorted[at], carrier):
                if found:
                    return None
                found = self._sorted[at]
            at += 1
        return found
