# SPDX-License-Identifier: Apache-2.0
"""Tree objects changed at one path, every other entry kept to the byte.

An index would do the same and also turn odd modes into usual ones, so none is used. Owns the
format and order of trees. Knows nothing of commits.
"""

from __future__ import annotations

from .errors import GitFailed
from .git import ObjectReader, Repository, TreeEntry
from .packs import oid_of

TREE = b"40000"
EMPTY_TREE = oid_of(b"tree", b"")


def serialize(entries: list[TreeEntry]) -> bytes:
    """In git's order, where a folder sorts as if its name ended in a slash."""
    in_order = sorted(entries, key=lambda e: e.name + b"/" if e.is_tree else e.name)
    return b"".join(e.mode + b" " + e.name + b"\0" + bytes.fromhex(e.oid) for e in in_order)


def lookup(objects: ObjectReader, root: str, path: bytes) -> TreeEntry | None:
    """The entry at `path`, or nothing; a file on the way is nothing as well."""
    entry: TreeEntry | None = TreeEntry(TREE, b"", root)
    for part in path.split(b"/"):
        if entry is None or not entry.is_tree:
            return None
        inside = [] if entry.oid == EMPTY_TREE else objects.tree(entry.oid)
        entry = next((e for e in inside if e.name == part), None)
    return entry


def splice(repository: Repository, root: str, path: bytes, new: tuple[bytes, str] | None) -> str:
    """The id of `root` with `path` set to (mode, id) or removed; folders left empty go too."""
    with repository.objects() as objects:
        made = _replaced(repository, objects, root, path.split(b"/"), new)
    return made or write(repository, [])


def write(repository: Repository, entries: list[TreeEntry]) -> str:
    data = serialize(entries)
    command = ["hash-object", "-t", "tree", "-w", "--stdin", "--literally"]
    return repository.git(*command, input=data).decode().strip()


def _replaced(
    repository: Repository,
    objects: ObjectReader,
    tree: str | None,
    parts: list[bytes],
    new: tuple[bytes, str] | None,
) -> str | None:
    """The new tree's id, nothing where it would be empty."""
    entries = [] if tree in (None, EMPTY_TREE) else objects.tree(str(tree))
    name, rest = parts[0], parts[1:]
    old = next((entry for entry in entries if entry.name == name), None)
    kept = [entry for entry in entries if entry.name != name]
    if rest:
        if old and not old.is_tree and new:
            raise GitFailed(f"{name.decode(errors='replace')} is not a folder")
        below = _replaced(repository, objects, old.oid if old and old.is_tree else None, rest, new)
        new = (TREE, below) if below else None
    if new:
        kept.append(TreeEntry(new[0], name, new[1]))
    return write(repository, kept) if kept else None
