# SPDX-License-Identifier: Apache-2.0
"""All ancestors of one commit, raw, parents before children, and which of them a text names.

Owns order and ancestry. Knows nothing of prefixes or rewriting.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from functools import cached_property

from . import messages
from .git import Commit, Repository, parse_commit
from .progress import Progress


@dataclass(frozen=True)
class Closure:
    oids: list[str]
    raw: list[bytes] = field(repr=False)

    def __len__(self) -> int:
        return len(self.oids)

    @property
    def pin(self) -> str:
        return self.oids[-1]

    @cached_property
    def position(self) -> dict[str, int]:
        return {oid: index for index, oid in enumerate(self.oids)}

    @cached_property
    def parents(self) -> list[list[int]]:
        return [[self.position[parent] for parent in parents_of(data)] for data in self.raw]

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(self.oids)

    def commit(self, oid: str) -> Commit:
        return parse_commit(self.raw[self.position[oid]])

    def message(self, index: int) -> bytes:
        return self.raw[index].partition(b"\n\n")[2]

    def named(self, text: bytes, carrier: int) -> str | None:
        """The one ancestor of commit number `carrier` whose id begins with `text`."""
        prefix = text.decode("ascii")
        start = bisect.bisect_left(self._sorted, prefix)
        end = bisect.bisect_left(self._sorted, prefix + "g")
        found = [oid for oid in self._sorted[start:end] if self.precedes(oid, carrier)]
        return found[0] if len(found) == 1 else None

    def precedes(self, oid: str, carrier: int) -> bool:
        """Positions only grow from parent to child, so the search stops below the one sought."""
        wanted = self.position[oid]
        waiting, seen = [carrier], {carrier}
        while waiting:
            for parent in self.parents[waiting.pop()]:
                if parent == wanted:
                    return True
                if parent > wanted and parent not in seen:
                    seen.add(parent)
                    waiting.append(parent)
        return False

    def references(self) -> dict[str, dict[str, str]]:
        """For each commit whose message names ancestors: the text used and the ancestor's id."""
        found: dict[str, dict[str, str]] = {}
        for index, oid in enumerate(self.oids):
            for text in messages.ids_in(self.message(index)):
                if named := self.named(text, index):
                    found.setdefault(oid, {})[text.decode("ascii")] = named
        return found

    def ancestors_of(self, oid: str) -> list[str]:
        """`oid` and all before it, in this order."""
        waiting, seen = [self.position[oid]], {self.position[oid]}
        while waiting:
            fresh = [p for p in self.parents[waiting.pop()] if p not in seen]
            seen.update(fresh)
            waiting.extend(fresh)
        return [self.oids[index] for index in sorted(seen)]


def parents_of(data: bytes) -> list[str]:
    """Read from the fixed place behind the tree, which is what git itself does."""
    found, start = [], data.index(b"\n") + 1
    while data.startswith(b"parent ", start):
        end = data.index(b"\n", start)
        found.append(data[start + 7 : end].decode("ascii"))
        start = end + 1
    return found


def read(repository: Repository, pin: str) -> Closure:
    listed = repository.git("rev-list", "--topo-order", "--reverse", pin, "--")
    oids = listed.decode("ascii").split()
    raw = []
    with repository.objects() as objects, Progress("reading commits", len(oids)) as commits:
        for _, _, data in objects.read_many(oids):
            raw.append(data)
            commits.advance()
    return Closure(oids, raw)
