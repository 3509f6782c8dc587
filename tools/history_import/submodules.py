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
    checkout: Path | None = None  # the working tree that the module names as its own

    @property
    def repositories(self) -> list[Path]:
        """Where its commits are: the one its pointer leads to and the one kept for its name.

        They differ in a linked working tree, which keeps its submodules to itself.
        """
        found = [self.module] if self.module is not None else []
        if self.pointer is not None and (led := _target(self.pointer)) not in found:
            found.append(led)
        return found


def _target(pointer: Path) -> Path:
    if pointer.is_dir():
        return pointer
    said = pointer.read_bytes().removeprefix(b"gitdir:").strip()
    return (pointer.parent / os.fsdecode(said)).resolve()


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
    module = modules.get(name)
    return Submodule(
        name,
        path,
        pointer if pointer.exists() else None,
        module,
        name in sections,
        _checkout(module) if module else None,
    )


def _loose(host: Repository, path: str) -> Submodule:
    return Submodule(path, path, host.path / path / ".git", None, False)


def _modules(host: Repository) -> Iterator[Path]:
    return _repositories(host.common_dir() / "modules")


def _repositories(root: Path) -> Iterator[Path]:
    """A name may have slashes; a repository is where HEAD and objects are."""
    for folder, inside, files in os.walk(root):
        if "HEAD" in files and "objects" in inside:
            inside.clear()
            yield Path(folder)


def _name(host: Repository, folder: Path) -> str:
    return str(folder.relative_to(host.common_dir() / "modules"))


def _path(host: Repository, folder: Path, name: str) -> str:
    """Below the clone's top folder, if the module's working tree is there at all."""
    worktree, top = _checkout(folder), host.path.resolve()
    inside = worktree is not None and worktree.is_relative_to(top)
    return str(worktree.relative_to(top)) if worktree and inside else name


def _checkout(folder: Path) -> Path | None:
    """The module says where its working tree is, from its own folder."""
    said = Repository(folder.parent).git(
        "config", "--file", str(folder / "config"), "--get", "core.worktree", check=False
    )
    return (folder / os.fsdecode(said.rstrip(b"\n"))).resolve() if said.strip() else None


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
    found = [reason for folder in one.repositories for reason in _kept(folder)]
    if working_tree and one.pointer is not None:
        return found + _uncommitted(host.path / one.path)
    return found + [reason for folder in one.repositories for reason in _staged(folder)]


def _kept(folder: Path) -> list[str]:
    """What only this repository has, and those of its own submodules inside it."""
    if not folder.is_dir():
        return [f"its repository {folder} is not there"]
    found = _commits(folder)
    if any((folder / "worktrees").glob("*")):
        found.append("working trees of its own (git worktree list)")
    for nested in _repositories(folder / "modules"):
        found += [f"{nested.relative_to(folder)}: {reason}" for reason in _kept(nested)]
    return found


def _commits(folder: Path) -> list[str]:
    inside, at = Repository(folder), ["--git-dir", str(folder)]
    ask = ["log", "--format=%h %s", "HEAD", "--branches", "--tags", "--not", "--remotes"]
    done = inside.run(*at, *ask)
    if done.returncode:  # not knowing is no reason to delete
        said = done.stderr.decode(errors="replace").strip().replace("\n", " / ")
        return [f"its commits cannot be listed: {said}"]
    lines = done.stdout.decode(errors="replace").splitlines()
    found = [f"{len(lines)} commits on no remote, such as {lines[0]}"] if lines else []
    if inside.code(*at, "rev-parse", "--verify", "--quiet", "refs/stash") == 0:
        found.append("a stash")
    return found


def _staged(folder: Path) -> list[str]:
    """The content of what is staged is in the repository and nowhere else."""
    ask = ["diff-index", "--cached", "--name-only", "-z", "HEAD", "--"]
    names = Repository(folder).git("--git-dir", str(folder), *ask, check=False).split(b"\0")[:-1]
    if not names:
        return []
    return [f"{len(names)} staged changes, such as {names[0].decode(errors='replace')}"]


def _uncommitted(folder: Path) -> list[str]:
    """Ignored files too: nobody else has a `.env`, and git deletes it with the folder."""
    shown = ["--no-renames", "--untracked-files=normal", "--ignore-submodules=none", "--ignored"]
    lines = Repository(folder).git("status", "--porcelain", "-z", *shown).split(b"\0")[:-1]
    ignored = [line for line in lines if line.startswith(b"!! ")]
    changed = [line for line in lines if not line.startswith(b"!! ")]
    found = _named(changed, "uncommitted changes") + _named(ignored, "ignored files or folders")
    found += _named(_unseen(folder), "files that status does not compare")
    for path in sorted(gitlinks(Repository(folder), "HEAD")):
        if (folder / path / ".git").exists():
            found += [f"{path}: {reason}" for reason in _uncommitted(folder / path)]
    return found


def _unseen(folder: Path) -> list[bytes]:
    """Present, and marked `assume-unchanged` or `skip-worktree`: status calls any edit clean."""
    lines = Repository(folder).git("ls-files", "-v", "-z").split(b"\0")[:-1]
    names = [line[2:] for line in lines if line[:1] == b"S" or line[:1].islower()]
    return [b"   " + name for name in names if (folder / os.fsdecode(name)).exists()]


def _named(lines: list[bytes], what: str) -> list[str]:
    names = [line[3:].decode(errors="replace") for line in lines[:3]]
    return [f"{len(lines)} {what}, such as {', '.join(names)}"] if names else []
