# SPDX-License-Identifier: Apache-2.0
"""Root trees: what an image's root must be, and what stands at a path in the one that is there.

Owns trees as entries. Knows nothing of commits.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..git import ObjectReader, TreeEntry, parse_tree
from .graph import object_id

EMPTY = object_id(b"tree", b"")
FOLDER = b"40000"
OLD_MODE, PLAIN_MODE = b"100664", b"100644"


class Trees:
    """Trees of one store by id, each read once; a tree that is not there has no entries."""

    def __init__(self, objects: ObjectReader, kept: int = 20_000) -> None:
        self._objects = objects
        self._known: dict[str, list[TreeEntry]] = {EMPTY: []}
        self._kept = kept

    def entries(self, oid: str) -> list[TreeEntry]:
        if oid not in self._known:
            if len(self._known) > self._kept:
                self._known = {EMPTY: []}
            kind, data = self._objects.read(oid)
            self._known[oid] = parse_tree(data) if kind == b"tree" else []
        return self._known[oid]

    def at(self, root: str, path: bytes) -> TreeEntry | None:
        entry: TreeEntry | None = TreeEntry(FOLDER, b"", root)
        for name in path.split(b"/"):
            if entry is None or not entry.is_tree:
                return None
            entry = next((item for item in self.entries(entry.oid) if item.name == name), None)
        return entry

    def tree_at(self, root: str, path: bytes) -> str:
        """The tree at a path; no folder and an empty one are the same to git."""
        entry = self.at(root, path)
        return entry.oid if entry and entry.is_tree else EMPTY

    def differences(self, one: str, other: str, path: bytes = b"") -> Iterator[bytes]:
        """Paths that are not the same in both, down to the file."""
        here = {entry.name: entry for entry in self.entries(one)}
        there = {entry.name: entry for entry in self.entries(other)}
        for name in sorted(here.keys() | there.keys()):
            left, right = here.get(name), there.get(name)
            if left == right:
                continue
            yield from self.differences(folder(left), folder(right), path + name + b"/")
            if any(item and not item.is_tree for item in (left, right)):
                yield path + name

    def files(self, root: str, path: bytes = b"") -> Iterator[tuple[bytes, TreeEntry]]:
        for entry in self.entries(root):
            if entry.is_tree:
                yield from self.files(entry.oid, path + entry.name + b"/")
            else:
                yield path + entry.name, entry


def folder(entry: TreeEntry | None) -> str:
    return entry.oid if entry and entry.is_tree else EMPTY


def order(entry: TreeEntry) -> bytes:
    return entry.name + b"/" if entry.is_tree else entry.name


def tree_id(entries: list[TreeEntry]) -> str:
    rows = (
        b"%s %s\0" % (e.mode, e.name) + bytes.fromhex(e.oid) for e in sorted(entries, key=order)
    )
    return object_id(b"tree", b"".join(rows))


class Roots:
    """The root tree an image must have: the source's tree at the prefix, around it the host's.

    `base` is the host's tree in layout linear, and nothing in layout merge.
    """

    def __init__(self, prefix: bytes, host: Trees | None = None, base: str = EMPTY) -> None:
        self._names = prefix.split(b"/")
        self._around: list[list[TreeEntry]] = []
        self._known: dict[str, str] = {}
        for name in self._names:
            entries = host.entries(base) if host else []
            self._around.append([entry for entry in entries if entry.name != name])
            inside = next((e for e in entries if e.name == name and e.is_tree), None)
            base = inside.oid if inside else EMPTY

    def root(self, tree: str) -> str:
        if tree not in self._known:
            self._known[tree] = self._build(tree)
        return self._known[tree]

    def _build(self, tree: str) -> str:
        for name, around in zip(reversed(self._names), reversed(self._around), strict=True):
            inside = [] if tree == EMPTY else [TreeEntry(FOLDER, name, tree)]
            tree = tree_id([*around, *inside])
        return tree


class Normalised:
    """Trees as fast-import writes them: the group-writable mode of old becomes the plain one."""

    def __init__(self, source: Trees) -> None:
        self._source = source
        self._known: dict[str, str] = {EMPTY: EMPTY}

    def tree(self, oid: str) -> str:
        if oid not in self._known:
            self._known[oid] = tree_id([self._entry(e) for e in self._source.entries(oid)])
        return self._known[oid]

    def _entry(self, entry: TreeEntry) -> TreeEntry:
        mode = PLAIN_MODE if entry.mode == OLD_MODE else entry.mode
        return TreeEntry(mode, entry.name, self.tree(entry.oid) if entry.is_tree else entry.oid)
