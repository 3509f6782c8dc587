# SPDX-License-Identifier: Apache-2.0
"""Host commits turned into commits of the source: the graph kept, the prefix taken off.

Owns what an exported commit is. It must not know refs nor the source's present state.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from . import detached, trees
from .config import Config
from .errors import Refused
from .git import Commit, ObjectReader, Repository
from .packs import PackWriter
from .record import Record

SIGNATURES = (b"gpgsig", b"gpgsig-sha256", b"mergetag")


@dataclass
class Done:
    """What was made includes commits that the source has already, where it took an export."""

    tip: str = ""
    merges: set[str] = field(default_factory=set)
    both: set[str] = field(default_factory=set)  # they change files outside the prefix, too


@dataclass(frozen=True)
class State:
    """What a host commit became: a commit of the source and its tree."""

    commit: str
    tree: str


class Replay:
    """`run` goes through the host's commits since the import, parents first."""

    def __init__(self, host: Repository, config: Config, records: Sequence[Record]) -> None:
        self.host, self.config = host, config
        self.prefix = os.fsencode(config.target.prefix)
        self.records = {one.commit: one for one in records}
        self.became: dict[str, State | None] = {}
        self.done = Done()
        # Parents of what was made, so that a merge can drop parents that others contain.
        self._above: dict[str, set[str]] = {}

    def run(self, tip: str) -> Done:
        self._writer = PackWriter(self.host)
        with self.host.objects() as objects:
            self._begin(objects)
            for oid in self._since(tip):
                self.became[oid] = self._one(objects, oid, objects.commit(oid))
        self._writer.finish()
        last = self.became[tip]
        if last is None:
            raise Refused(f"{self.config.target.prefix}/ is not in {tip}: the host removed it")
        self.done.tip = last.commit
        return self.done

    def _begin(self, objects: ObjectReader) -> None:
        """Each join's image stands for the source's commit; in layout linear so does the join."""
        for one in self.records.values():
            root = objects.commit(one.source_commit).tree
            self.became[one.tip] = State(one.source_commit, root)
            if one.linear:
                self.became[one.commit] = self.became[one.tip]

    def _since(self, tip: str) -> list[str]:
        """Neither imported commits nor what the host had before the first join."""
        first = min(self.records.values(), key=lambda one: one.commits)
        known = [one.tip for one in self.records.values()]
        known += [first.commit] if first.linear else [first.parents[0]]
        listed = self.host.git("rev-list", "--topo-order", "--reverse", tip, "--not", *known, "--")
        return listed.decode().split()

    def _one(self, objects: ObjectReader, oid: str, commit: Commit) -> State | None:
        entry = trees.lookup(objects, commit.tree, self.prefix)
        if entry is None or not entry.is_tree:
            return None
        parents = self._parents(oid, commit)
        if not parents:
            raise self._without_import(oid)
        tree = self._tree(entry.oid, parents, self.records.get(oid))
        kept = self._independent(parents)
        if len(kept) == 1 and kept[0].tree == tree:
            return kept[0]
        return self._make(objects, commit, kept, tree, self._message(oid, commit))

    def _parents(self, oid: str, commit: Commit) -> list[State]:
        found: dict[str, State] = {}
        for parent in commit.parents:
            if state := self._state(oid, parent):
                found.setdefault(state.commit, state)
        return list(found.values())

    def _state(self, oid: str, parent: str) -> State | None:
        """Nothing before the import; a line that began inside the imported history is refused."""
        if parent in self.became:
            return self.became[parent]
        if any(self.host.is_ancestor(parent, one.tip) for one in self.records.values()):
            raise Refused(
                f"host commit {oid} was made on {parent}, a commit inside the imported history",
                "rebase that work onto the host's main line",
            )
        return None

    def _without_import(self, oid: str) -> Refused:
        return Refused(
            f"host commit {oid} has {self.config.target.prefix}/ but no parent with the import",
            "it brings its own copy; export --ref a branch without it",
        )

    def _tree(self, prefix: str, parents: list[State], join: Record | None) -> str:
        """What was declared as detached is the host's own absence, not a deletion to export."""
        if not self.config.target.detached:
            return prefix
        upstream = [one for one in parents if join and one.commit == join.source_commit]
        model = (upstream or parents)[0].tree
        return detached.restored(self.host, self.config.target.detached, prefix, model)

    def _independent(self, parents: list[State]) -> list[State]:
        """A parent that another one contains says nothing: a later sync brought it back."""
        if len(parents) == 1:
            return parents
        return [
            one
            for one in parents
            if not any(
                self._contains(other.commit, one.commit) for other in parents if other != one
            )
        ]

    def _contains(self, later: str, earlier: str) -> bool:
        """Commits made here are not in the repository yet, so their parents are followed."""
        waiting, seen = [later], set()
        while waiting:
            oid = waiting.pop()
            if oid == earlier:
                return True
            if oid in seen:
                continue
            seen.add(oid)
            if oid in self._above:
                waiting += self._above[oid]
            elif self.host.is_ancestor(earlier, oid):
                return True
        return False

    def _message(self, oid: str, commit: Commit) -> bytes:
        """A join speaks of the host and would, imported again, look like a join of its own."""
        join = self.records.get(oid)
        return b"Merge commit '%s'\n" % join.source_commit.encode() if join else commit.message

    def _make(
        self,
        objects: ObjectReader,
        commit: Commit,
        parents: list[State],
        tree: str,
        message: bytes,
    ) -> State:
        head = [(b"tree", tree.encode()), *((b"parent", one.commit.encode()) for one in parents)]
        skipped = (b"tree", b"parent", *SIGNATURES)
        head += [(key, value) for key, value in commit.headers if key not in skipped]
        lines = [key + b" " + value.replace(b"\n", b"\n ") for key, value in head]
        oid = self._writer.write(b"commit", b"\n".join(lines) + b"\n\n" + message)
        self._above[oid] = {one.commit for one in parents}
        self._count(objects, oid, commit, parents)
        return State(oid, tree)

    def _count(self, objects: ObjectReader, oid: str, commit: Commit, parents: list[State]) -> None:
        if len(parents) > 1:
            self.done.merges.add(oid)
        if len(commit.parents) == 1:
            before = objects.commit(commit.parents[0]).tree
            if self._outside(objects, before) != self._outside(objects, commit.tree):
                self.done.both.add(oid)

    def _outside(self, objects: ObjectReader, root: str) -> list[object]:
        """Every entry that is not on the way to the prefix."""
        found: list[object] = []
        parts = self.prefix.split(b"/")
        for part in parts:
            entries = objects.tree(root)
            found += [entry for entry in entries if entry.name != part]
            inner = next((e for e in entries if e.name == part and e.is_tree), None)
            if inner is None:
                break
            root = inner.oid
        return found
