# SPDX-License-Identifier: Apache-2.0
"""Where a clone still has a submodule: in its working trees, in its indexes, on its branches.

Owns that question, because one `modules` folder and one configuration serve all of them. It must
not know what is done about a submodule that is nowhere any more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .git import Repository
from .submodules import Submodule


@dataclass(frozen=True)
class Tree:
    """A working tree of the clone as git lists it; its folder may be on a disk that is away."""

    path: Path
    head: str | None


def elsewhere(host: Repository, one: Submodule) -> list[str]:
    """Each reason in words; nothing where only this working tree has to do with it."""
    own = host.git_dir()
    others = [tree for tree in _trees(host) if _git_dir(tree) != own]
    found = [f"working tree {tree.path} has it" for tree in others if _has(host, tree, one)]
    return found + _checked_out(host, one, others)


def branches(host: Repository, one: Submodule) -> list[str]:
    """Local branches that still have it: a checkout of one wants what is kept for it."""
    having = [
        os.fsdecode(name).removeprefix("refs/heads/")
        for name, commit in host.refs("refs/heads/").items()
        if is_in(host, commit, one)
    ]
    return [f"a submodule on {_some(having)}"] if having else []


def is_in(host: Repository, commit: str, one: Submodule) -> bool:
    """By its path or, where that is another one there, by its name."""
    said = host.git("config", "--blob", f"{commit}:.gitmodules", "--get", _key(one), check=False)
    paths = {one.path, os.fsdecode(said.rstrip(b"\n"))} - {""}
    listed = host.git("--literal-pathspecs", "ls-tree", "-z", commit, "--", *sorted(paths))
    return any(entry.startswith(b"160000 ") for entry in listed.split(b"\0"))


def staged(folder: Repository) -> set[str]:
    """Submodules of an index: one just added is in no commit yet."""
    entries = folder.git("ls-files", "--stage", "-z").split(b"\0")
    return {os.fsdecode(e.partition(b"\t")[2]) for e in entries if e.startswith(b"160000 ")}


def _key(one: Submodule) -> str:
    return f"submodule.{one.name}.path"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"branch {names[0]}{more}"


def _trees(host: Repository) -> Iterator[Tree]:
    """A bare repository that has working trees is no working tree itself."""
    for block in host.git("worktree", "list", "--porcelain").split(b"\n\n"):
        pairs = dict(line.partition(b" ")[::2] for line in block.splitlines())
        if b"worktree" in pairs and b"bare" not in pairs:
            head = pairs.get(b"HEAD", b"").decode()
            yield Tree(Path(os.fsdecode(pairs[b"worktree"])), head if head.strip("0") else None)


def _git_dir(tree: Tree) -> Path | None:
    return Repository(tree.path).git_dir() if (tree.path / ".git").exists() else None


def _has(host: Repository, tree: Tree, one: Submodule) -> bool:
    if tree.head and is_in(host, tree.head, one):
        return True
    there = (tree.path / ".git").exists()
    return there and one.path in staged(Repository(tree.path))


def _checked_out(host: Repository, one: Submodule, others: list[Tree]) -> list[str]:
    """A module of the clone whose own working tree lies inside another working tree."""
    where = one.checkout
    if where is None or not (where / ".git").exists():
        return []
    inside = any(where.is_relative_to(tree.path.resolve()) for tree in others)
    return [f"it is checked out in {where}"] if inside else []
