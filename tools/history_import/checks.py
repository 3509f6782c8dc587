# SPDX-License-Identifier: Apache-2.0
"""Every reason not to begin: the host's state, the source, and rules the configuration sets.

Each refusal is one line with its remedy, before anything is changed. Owns these rules; reads only.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from . import filter_repo, refs, signoff, trees
from .closure import Closure
from .config import Config
from .errors import Refused
from .git import ObjectReader, Repository, TreeEntry
from .profile import Profile, fold
from .scratch import Scratch
from .verify import rescued

OLDEST_GIT = (2, 39)
# Files in a git directory that mean somebody is in the middle of something.
HALF_DONE = {
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
    "rebase-merge": "rebase",
    "rebase-apply": "rebase or am",
    "sequencer": "sequence of picks",
    "BISECT_LOG": "bisect",
}
PARTIAL = r"^remote\..*\.promisor$|^extensions\.partialclone$"
# Scratch, images and the host's copy of both, beside some room for packing.
COPIES = 4
ROOM = 64 << 20


@dataclass(frozen=True)
class Prefix:
    """What is at the prefix in the host's base now."""

    state: str  # "absent" or "submodule"
    submodule: str = ""  # the commit it points to


def host(config: Config, repository: Repository) -> str:
    """All that can be said before the source is read; gives the base branch's commit."""
    _git_version(repository)
    _object_format(repository)
    _whole(repository)
    _not_half_done(repository)
    _clean(config, repository)
    _not_replaced(repository)
    base = _base(config, repository)
    branch(config, repository)
    _other_refs(config, repository)
    if config.engine.use != "graft":
        filter_repo.require(config)
    return base


def _git_version(repository: Repository) -> None:
    said = repository.line("version")
    numbers = re.search(r"(\d+)\.(\d+)", said)
    if not numbers or tuple(map(int, numbers.groups())) < OLDEST_GIT:
        raise Refused(f"{said} is too old", "git 2.39 or later is needed")


def _object_format(repository: Repository) -> None:
    found = repository.line("rev-parse", "--show-object-format")
    if found != "sha1":
        raise Refused(
            f"{repository.path} is a {found.upper()} repository", "only SHA-1 repositories work"
        )


def _whole(repository: Repository) -> None:
    if repository.line("rev-parse", "--is-shallow-repository") == "true":
        raise Refused(f"{repository.path} is a shallow clone", "run git fetch --unshallow there")
    partial = repository.git("config", "--get-regexp", PARTIAL, check=False).decode()
    if partial:
        raise Refused(
            f"{repository.path} is a partial clone ({partial.splitlines()[0]})",
            "use a clone made without --filter",
        )


def _not_half_done(repository: Repository) -> None:
    folder = repository.git_dir()
    for name, what in HALF_DONE.items():
        if (folder / name).exists():
            raise Refused(f"a {what} is in progress in {repository.path}", "finish or abort it")


def is_bare(repository: Repository) -> bool:
    return repository.line("rev-parse", "--is-bare-repository") == "true"


def _changed(repository: Repository) -> list[bytes]:
    """As the user's own `git status` sees it: line ends and filters are the user's settings.

    It may neither refresh the index nor start a monitor.
    """
    status = ["status", "--porcelain", "-z", "--untracked-files=no", "--ignore-submodules=none"]
    words = ["-c", "core.fsmonitor=false", *status, "--no-renames"]
    said = repository.git(*words, user=True, env={"GIT_OPTIONAL_LOCKS": "0"})
    return [line for line in said.split(b"\0") if line]


def _clean(config: Config, repository: Repository) -> None:
    """Changes to tracked files, and anything that is only on disk where the import will be."""
    if is_bare(repository):
        return
    changed = _changed(repository)
    if changed:
        first = changed[0][3:].decode(errors="backslashreplace")
        raise Refused(
            f"{repository.path} has {len(changed)} uncommitted changes, such as {first}",
            "commit or stash them",
        )
    here = ["ls-files", "--others", "-z", "--", f":(top,literal){config.target.prefix}"]
    untracked = [line for line in repository.git(*here).split(b"\0") if line]
    if untracked:
        first = untracked[0].decode(errors="backslashreplace")
        raise Refused(
            f"{len(untracked)} untracked files are below {config.target.prefix}/, such as {first}",
            "move them away",
        )


def _not_replaced(repository: Repository) -> None:
    """What the proof would refuse at the very end, except a `rescue` of another import."""
    found = [os.fsdecode(name) for name in rescued.misleading(repository, repository)]
    if found:
        raise Refused(
            f"the host has {found[0]}, which changes what git shows of the history",
            f"delete it (git update-ref -d {shlex.quote(found[0])}) or use a clone without it",
        )


def _base(config: Config, repository: Repository) -> str:
    name = refs.branch(config.target.base)
    found = repository.resolve(f"{name}^{{commit}}")
    if found is None:
        known = [os.fsdecode(ref)[11:] for ref in repository.refs("refs/heads/")]
        raise Refused(
            f"the host has no branch {config.target.base}",
            f"set target.base to one of: {', '.join(known[:8]) or 'it has none'}",
        )
    return found


def branch(config: Config, repository: Repository) -> None:
    name = config.target.branch
    listed = repository.git("worktree", "list", "--porcelain").splitlines()
    if b"branch " + refs.branch(name).encode() in listed:
        raise Refused(f"branch {name} is checked out", "switch to another branch first")


def _other_refs(config: Config, repository: Repository) -> None:
    """A name that is a folder of another cannot exist beside it."""
    wanted = refs.branch(config.target.branch)
    for ref in map(os.fsdecode, repository.refs("refs/heads/")):
        if wanted.startswith(ref + "/") or ref.startswith(wanted + "/"):
            raise Refused(
                f"branch {config.target.branch} cannot exist beside branch {ref[11:]}",
                "choose another target.branch",
            )


def prefix(config: Config, objects: ObjectReader, base: str) -> Prefix:
    """Refuses whatever is at the prefix and is neither nothing nor a submodule.

    Not even the same files may be there: blame looks at a merge's first parent first and stops at
    a commit that copied them.
    """
    path = config.target.prefix.encode()
    root = objects.commit(base).tree
    _case(objects, root, path)
    _way_is_free(config, objects, root, path)
    entry = trees.lookup(objects, root, path)
    shown = f"{config.target.prefix} of {config.target.base}"
    if entry is None:
        return Prefix("absent")
    if entry.is_gitlink:
        return _submodule(config, entry, shown)
    what = "has files of its own" if entry.is_tree else "is a file"
    remedy = f"set another target.prefix, or remove it: git rm -r {config.target.prefix}"
    raise Refused(f"{shown} {what}", remedy)


def _submodule(config: Config, entry: TreeEntry, shown: str) -> Prefix:
    if not config.target.replaces_submodule:
        raise Refused(
            f"{shown} is a submodule at {entry.oid[:12]}",
            "set target.replaces_submodule = true to replace it",
        )
    if config.target.layout == "linear":
        raise Refused(
            f"{shown} is a submodule, which layout linear cannot replace",
            'remove it in a commit of its own, or use layout = "merge"',
        )
    return Prefix("submodule", entry.oid)


def _way_is_free(config: Config, objects: ObjectReader, root: str, path: bytes) -> None:
    parts = path.split(b"/")
    for depth in range(1, len(parts)):
        above = b"/".join(parts[:depth])
        entry = trees.lookup(objects, root, above)
        if entry and not entry.is_tree:
            kind = "a submodule" if entry.is_gitlink else "a file"
            raise Refused(
                f"{above.decode()} of {config.target.base} is {kind}",
                "choose another target.prefix",
            )


def _case(objects: ObjectReader, root: str, path: bytes) -> None:
    """On a file system that ignores case, `Rust` and `rust` are one folder."""
    tree: str | None = root
    for part in path.split(b"/"):
        entries = objects.tree(tree) if tree and tree != trees.EMPTY_TREE else []
        for entry in entries:
            if entry.name != part and fold(entry.name) == fold(part):
                raise Refused(
                    f"the host has {entry.name.decode(errors='backslashreplace')}, which differs "
                    f"from {part.decode()} of target.prefix only in case",
                    "choose another target.prefix",
                )
        tree = next((e.oid for e in entries if e.name == part and e.is_tree), None)


def unrelated(config: Config, base: str, closure: Closure) -> None:
    """Before any engine is started: what it rewrites must not be the host."""
    if base in closure.position:
        raise Refused(
            f"{config.target.base} of the host ({base[:12]}) is a commit of the source",
            "the host must be another repository than the source",
        )


def source(config: Config, found: Profile) -> None:
    """What the fetched history itself forbids."""
    if found.gitlinks:
        first = found.gitlinks[0].decode(errors="backslashreplace")
        raise Refused(
            f"the source has a submodule of its own at {first}",
            "git looks for .gitmodules at the root only; remove it upstream before the pin",
        )
    _required(config, found)


def _required(config: Config, found: Profile) -> None:
    rule, limit = config.require, config.require.max_blob_bytes
    if limit and found.blobs.largest > limit:
        path = found.blobs.largest_path.decode(errors="backslashreplace")
        raise Refused(
            f"{path} has {found.blobs.largest} bytes, require.max_blob_bytes is {limit}",
            "raise the limit if the host may carry it for ever",
        )
    if rule.license and not found.licence_since:
        raise Refused(
            "the pinned commit has no licence file at its root",
            "add one upstream or set require.license = false",
        )
    missing = found.unsigned_commits
    if rule.dco == "remediation":
        missing = signoff.open_commits(found.unsigned)
    if rule.dco != "report" and missing:
        raise Refused(
            f"{missing} commits of {len(found.unsigned)} authors have no sign-off, "
            f'require.dco is "{rule.dco}"',
            'plan with require.dco = "report" writes the texts to ask for',
        )


def submodule_commit(config: Config, closure: Closure, commit: str) -> None:
    """Switching changes no byte only where the submodule's commit is part of what is imported."""
    if commit not in closure.position:
        raise Refused(
            f"the submodule at {config.target.prefix} points to {commit}, which is no ancestor of "
            f"source.pin {config.source.pin[:12]}",
            "move the submodule to a commit of the source's branch first",
        )


def space(place: Scratch) -> None:
    """Asked after the fetch, when the size is known, and before anything else is written."""
    needed = COPIES * _size(place.source.path) + ROOM
    free = shutil.disk_usage(place.folder).free
    if free < needed:
        raise Refused(
            f"{free >> 20} MiB are free where {place.folder} is, {needed >> 20} MiB are needed",
            "make room",
        )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
