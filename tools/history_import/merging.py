# SPDX-License-Identifier: Apache-2.0
"""The three-way merge of a sync, as git itself computes it, without a working tree.

Owns what counts as a conflict: what the host declared as detached does not. It must not know refs
nor what a join says.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from . import detached, trees
from .config import Config
from .errors import GitFailed, Refused
from .git import Repository

MARKER = b"<<<<<<< "


@dataclass(frozen=True)
class Merge:
    tree: str
    conflicts: dict[bytes, str]  # path -> what git says about it
    kept_deleted: int  # detached files that the source still has


def merge(repository: Repository, config: Config, ours: str, theirs: str) -> Merge:
    done = repository.run("merge-tree", "--write-tree", "-z", "--messages", ours, theirs)
    if done.returncode not in (0, 1):
        said = done.stderr.decode(errors="replace").strip().replace("\n", " / ")
        raise GitFailed(f"git merge-tree {ours} {theirs}: exit {done.returncode}: {said}")
    tree, _, rest = done.stdout.partition(b"\0")
    conflicts = dict(_conflicts(rest)) if done.returncode else {}
    return _without_detached(repository, config, ours, tree.decode().strip(), conflicts)


def _conflicts(listed: bytes) -> Iterator[tuple[bytes, str]]:
    """`MODE ID STAGE TAB PATH` each, an empty field, then messages: count, paths, kind, text."""
    fields = listed.split(b"\0")
    end = fields.index(b"")
    paths = {line.partition(b"\t")[2] for line in fields[:end]}
    kinds = _kinds(fields[end + 1 :])
    for path in sorted(paths):
        yield path, kinds.get(path, "conflict")


def _kinds(fields: list[bytes]) -> dict[bytes, str]:
    """Lines that only say which file was merged are left out."""
    found: dict[bytes, str] = {}
    position = 0
    while position < len(fields) and fields[position].isdigit():
        count = int(fields[position])
        paths = fields[position + 1 : position + 1 + count]
        kind = fields[position + 1 + count].decode(errors="replace")
        if kind.startswith("CONFLICT"):
            for path in paths:
                found.setdefault(path, kind.removeprefix("CONFLICT").strip(" ()"))
        position += count + 3
    return found


def _without_detached(
    repository: Repository, config: Config, ours: str, tree: str, conflicts: dict[bytes, str]
) -> Merge:
    patterns = config.target.detached
    if not patterns:
        return Merge(tree, conflicts, 0)
    prefix = os.fsencode(config.target.prefix)
    merged, had = (_below(repository, root, prefix) for root in (tree, f"{ours}^{{tree}}"))
    if merged is None or had is None:
        return Merge(tree, conflicts, 0)
    have, start = detached.files(repository, merged), detached.files(repository, had)
    gone = [path for path in have if path not in start and detached.matches(patterns, path)]
    left = detached.removed(repository, patterns, merged, had)
    entry = None if left == trees.EMPTY_TREE else (trees.TREE, left)
    tree = trees.splice(repository, tree, prefix, entry)
    whole = {prefix + b"/" + path for path in gone}
    open_ones = {path: kind for path, kind in conflicts.items() if path not in whole}
    return Merge(tree, open_ones, len(gone))


def _below(repository: Repository, root: str, prefix: bytes) -> str | None:
    with repository.objects() as objects:
        oid = repository.resolve(root)
        entry = trees.lookup(objects, oid, prefix) if oid else None
    return entry.oid if entry and entry.is_tree else None


def resolved(repository: Repository, config: Config, ours: str, tree: str, merge: Merge) -> None:
    """Refuses a resolution that is not one: markers left, or changes outside the prefix."""
    prefix = os.fsencode(config.target.prefix)
    outside = _outside(repository, f"{ours}^{{tree}}", tree, prefix)
    if outside:
        raise Refused(
            f"the resolution changes {len(outside)} files outside {config.target.prefix}/, such as "
            f"{outside[0].decode(errors='backslashreplace')}",
            "a sync only changes the prefix; make other changes in another commit",
        )
    with repository.objects() as objects:
        for path in merge.conflicts:
            entry = trees.lookup(objects, tree, path)
            data = objects.read(entry.oid)[1] if entry and entry.mode[:3] == b"100" else b""
            if data.startswith(MARKER) or b"\n" + MARKER in data:
                shown = path.decode(errors="backslashreplace")
                raise Refused(f"{shown} of the resolution has conflict markers", "resolve them")


def _outside(repository: Repository, old: str, new: str, prefix: bytes) -> list[bytes]:
    listed = repository.git("diff-tree", "-r", "-z", "--no-renames", "--name-only", old, new)
    return [p for p in listed.split(b"\0")[:-1] if not p.startswith(prefix + b"/")]
