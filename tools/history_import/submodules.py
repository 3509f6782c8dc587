# SPDX-License-Identifier: Apache-2.0
"""The submodules that a clone knows in any way, and the work that exists only inside them.

Owns where git keeps a submodule: a pointer in the working tree, a repository below `modules`, a
section of the configuration. It must not know what is done about them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .git import Repository


@dataclass(frozen=True)
class Submodule:
    name: str
    path: str  # below the clone's top folder
    pointer: Path | None  # PATH/.git: a file, or a folder in old clones
    module: Path | None  # .git/modules/NAME
    section: bool  # [submodule "NAME"] in the clone's configuration

    @property
    def repository(self) -> Path | None:
        if self.pointer is not None and self.pointer.is_dir():
            return self.pointer
        return self.module


def gitlinks(host: Repository, commit: str) -> set[str]:
    """Paths that are submodules in a commit, or nothing where there is no such commit."""
    if host.resolve(f"{commit}^{{commit}}") is None:
        return set()
    entries = host.git("ls-tree", "-r", "-z", commit).split(b"\0")
    return {os.fsdecode(e.partition(b"\t")[2]) for e in entries if e.startswith(b"160000 ")}


def known(host: Repository) -> list[Submodule]:
    """Whatever is still there of each; one that left nothing behind is not listed."""
    modules = {_name(host, folder): folder for folder in _modules(host)}
    sections = _sections(host)
    paths = {name: _path(host, folder, name) for name, folder in modules.items()}
    for name, path in _listed(host):
        paths.setdefault(name, path)
    for name in sections:
        paths.setdefault(name, name)
    found = [_describe(host, name, path, modules, sections) for name, path in paths.items()]
    taken = {one.path for one in found}
    found += [_loose(host, path) for path in _pointers(host) if path not in taken]
    return sorted(found, key=lambda one: one.path)


def _describe(
    host: Repository, name: str, path: str, modules: dict[str, Path], sections: set[str]
) -> Submodule:
    pointer = host.path / path / ".git"
    return Submodule(
        name, path, pointer if pointer.exists() else None, modules.get(name), name in sections
    )


def _loose(host: Repository, path: str) -> Submodule:
    return Submodule(path, path, host.path / path / ".git", None, False)


def _modules(host: Repository) -> Iterator[Path]:
    """A name may have slashes; a repository is where HEAD and objects are."""
    root = host.common_dir() / "modules"
    for folder, inside, files in os.walk(root):
        if "HEAD" in files and "objects" in inside:
            inside.clear()
            yield Path(folder)


def _name(host: Repository, folder: Path) -> str:
    return str(folder.relative_to(host.common_dir() / "modules"))


def _path(host: Repository, folder: Path, name: str) -> str:
    """The module says where its working tree is, from its own folder."""
    said = Repository(folder.parent).git(
        "config", "--file", str(folder / "config"), "--get", "core.worktree", check=False
    )
    if not said.strip():
        return name
    worktree = (folder / os.fsdecode(said.rstrip(b"\n"))).resolve()
    top = host.path.resolve()
    return str(worktree.relative_to(top)) if worktree.is_relative_to(top) else name


def _sections(host: Repository) -> set[str]:
    said = host.git("config", "--local", "--get-regexp", r"^submodule\..*\.", check=False)
    keys = [os.fsdecode(line.split(b" ")[0]) for line in said.splitlines()]
    return {key.removeprefix("submodule.").rpartition(".")[0] for key in keys}


def _listed(host: Repository) -> Iterator[tuple[str, str]]:
    file = str(host.path / ".gitmodules")
    said = host.git(
        "config", "--file", file, "-z", "--get-regexp", r"^submodule\..*\.path$", check=False
    )
    for pair in said.split(b"\0")[:-1]:
        key, _, path = pair.partition(b"\n")
        name = os.fsdecode(key).removeprefix("submodule.").removesuffix(".path")
        yield name, os.fsdecode(path)


def _pointers(host: Repository) -> Iterator[str]:
    """Folders of HEAD that have a `.git` of their own, one level at a time and no deeper."""
    said = host.git("ls-tree", "-r", "-d", "-z", "--name-only", "HEAD", check=False)
    for path in map(os.fsdecode, said.split(b"\0")[:-1]):
        if (host.path / path / ".git").exists():
            yield path


def work(host: Repository, one: Submodule, *, working_tree: bool) -> list[str]:
    """What would be lost with the submodule: each reason in words."""
    folder = one.repository
    if folder is None:
        return []
    inside = Repository(folder)
    at = ["--git-dir", str(folder)]
    found = _commits(inside, at)
    if working_tree and one.pointer is not None:
        found += _uncommitted(host, one)
    return found


def _commits(inside: Repository, at: list[str]) -> list[str]:
    ask = ["log", "--format=%h %s", "HEAD", "--branches", "--tags", "--not", "--remotes"]
    lines = inside.git(*at, *ask, check=False).decode(errors="replace").splitlines()
    found = [f"{len(lines)} commits on no remote, such as {lines[0]}"] if lines else []
    if inside.code(*at, "rev-parse", "--verify", "--quiet", "refs/stash") == 0:
        found.append("a stash")
    return found


def _uncommitted(host: Repository, one: Submodule) -> list[str]:
    there = Repository(host.path / one.path)
    lines = there.git("status", "--porcelain", "--ignore-submodules=none").splitlines()
    if not lines:
        return []
    first = lines[0][3:].decode(errors="replace")
    return [f"{len(lines)} uncommitted changes, such as {first}"]
