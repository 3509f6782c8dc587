# SPDX-License-Identifier: Apache-2.0
"""`rescue`: after a squash, one replace ref that gives the squash commit its lost second parent.

The base branch is not touched; whoever fetches the replace ref sees every line's provenance. Owns
how the squash commit is found and the proof that blame passes through the replacement.
"""

from __future__ import annotations

import argparse
import os
import shutil
from dataclasses import dataclass

from . import blame, closure, engines, join, refs, scratch, standing, trees
from .config import Config
from .errors import ProofFailed, Refused
from .git import Repository
from .scratch import Scratch
from .steps import at


@dataclass(frozen=True)
class Rescued:
    name: str
    squash: str
    tip: str
    ref: str
    files: int
    lines_proved: int
    changed: bool

    def lines(self) -> list[str]:
        state = "new" if self.changed else "as it was"
        return [
            f"squash  {self.squash[:12]} brought the files without their history",
            f"proof   {self.lines_proved:,}/{self.lines_proved:,} lines of {self.files:,} files "
            f"are blamed as at {self.tip[:12]}",
            f"refs    {self.ref}  {state}",
            f"next    git push REMOTE {self.ref}",
            "        clones: git fetch REMOTE 'refs/replace/*:refs/replace/*'   (a forge's web "
            "view ignores it)",
        ]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--commit", help="the squash commit, where it cannot be found by its files")


def run(config: Config, host: Repository, options: argparse.Namespace) -> Rescued:
    base = _squashed_base(config, host)
    # Beside the folders of imports, whose names never begin with a point.
    place = host.common_dir() / "history-import" / ".rescue" / f"{config.name}.git"
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(place, ignore_errors=True)
    try:
        return _rescue(config, host, base, options.commit, scratch.init_bare(place))
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _squashed_base(config: Config, host: Repository) -> str:
    """A base that has an earlier import may still have lost a later sync."""
    found, tip = standing.of(config, host), standing.imported_tip(config, host)
    if found.base.records and (tip is None or host.is_ancestor(tip, found.base.tip)):
        raise Refused(
            f"{config.target.base} has the history: join {found.base.records[0].commit[:12]}",
            "there is nothing to rescue; history-import verify CONFIG proves it",
        )
    return found.base.tip


def _rescue(
    config: Config, host: Repository, base: str, given: str | None, stage: Repository
) -> Rescued:
    tip, sources = _image(config, host)
    scratch.add_alternate(stage, host, *sources)
    squash = _find(config, stage, base, tip, given)
    at("rescue.found")
    made = _with_parent(stage, squash, tip)
    ref = f"refs/replace/{squash}"
    stage.git("update-ref", ref, made)
    proof = blame.through(stage, squash, tip, os.fsencode(config.target.prefix))
    if proof.wrong:
        _refuse_rebased(config, stage, base, tip)
        path, wrong = next(iter(proof.wrong.items()))
        shown = path.decode(errors="backslashreplace")
        raise ProofFailed(
            f"{wrong} lines of {shown} are not blamed as in the import, and {len(proof.wrong) - 1} "
            "more files",
            "no ref was written; was something edited in the squash? name it with --commit",
        )
    at("rescue.proved")
    updates = refs.plan(host, {ref: made})
    if updates:
        options = ["--quiet", "--no-tags", "--no-write-fetch-head"]
        host.git("fetch", *options, "--", str(stage.path), made)
        refs.transaction(host, updates)
    return Rescued(config.name, squash, tip, ref, proof.files, proof.lines, bool(updates))


def _image(config: Config, host: Repository) -> tuple[str, list[Repository]]:
    """As the import left it, or made again where the refs did not come along."""
    if tip := standing.imported_tip(config, host):
        return tip, []
    place = Scratch(host, config)
    place.prepare()
    place.fetch()
    found = closure.read(place.source, config.source.pin)
    rewritten = engines.rewrite(config, place, found)
    return rewritten.tip, [place.source, rewritten.objects]


def _find(config: Config, stage: Repository, base: str, tip: str, given: str | None) -> str:
    if given is not None:
        squash = stage.resolve(f"{given}^{{commit}}") if len(given) == 40 else None
        squash = squash or _short(stage, base, given)
        _refuse_merge(stage, squash)
        return squash
    prefix = config.target.prefix
    listed = stage.git(
        "rev-list", "--first-parent", "--reverse", base, "--", f":(top,literal){prefix}"
    )
    wanted = _tree_at(stage, tip, prefix)
    for oid in listed.decode().split():
        if _tree_at(stage, oid, prefix) == wanted:
            _refuse_merge(stage, oid)
            return oid
    raise Refused(
        f"no commit of {config.target.base} has exactly the imported {prefix}/ of {tip[:12]}",
        "if the squash had other edits, name it with --commit",
    )


def _refuse_rebased(config: Config, stage: Repository, base: str, tip: str) -> None:
    """A squash has an author of its own; a rebase has the imported ones, commit by commit."""
    words = ["--format=%an%x00%ae%x00%at", "--", f":(top,literal){config.target.prefix}"]
    here = stage.git("log", "--first-parent", base, *words).splitlines()
    there = set(stage.git("log", tip, *words).splitlines())
    copied = sum(line in there for line in here)
    if copied > 1:
        raise Refused(
            f"{config.target.base} has {copied} commits with author and date of imported ones: it "
            "was rebased, which no replace ref can mend",
            'see "Rebased by mistake" in docs/guides/history-import.md',
        )


def _short(stage: Repository, base: str, given: str) -> str:
    """`rev-list` knows what the stage has no ref for."""
    listed = stage.git("rev-list", "--first-parent", base).decode().split()
    found = [oid for oid in listed if oid.startswith(given)]
    if len(found) != 1:
        raise Refused(f"{given!r} (--commit) is no commit of the base's first-parent line")
    return found[0]


def _refuse_merge(stage: Repository, oid: str) -> None:
    with stage.objects() as objects:
        parents = objects.commit(oid).parents
    if len(parents) > 1:
        raise Refused(
            f"{oid} has {len(parents)} parents, so it is no squash", "name the squash with --commit"
        )


def _tree_at(stage: Repository, commit: str, prefix: str) -> str | None:
    with stage.objects() as objects:
        entry = trees.lookup(objects, objects.commit(commit).tree, os.fsencode(prefix))
    return entry.oid if entry and entry.is_tree else None


def _with_parent(stage: Repository, squash: str, tip: str) -> str:
    """The same commit with one parent more; a signature of the old one would be wrong."""
    with stage.objects() as objects:
        old = objects.commit(squash)
    lines = [b"tree " + old.tree.encode()]
    lines += [b"parent " + parent.encode() for parent in [*old.parents, tip]]
    skipped = (b"tree", b"parent", b"gpgsig", b"gpgsig-sha256", b"mergetag")
    kept = [(key, value) for key, value in old.headers if key not in skipped]
    lines += [key + b" " + value.replace(b"\n", b"\n ") for key, value in kept]
    return join.write(stage, "commit", b"\n".join(lines) + b"\n\n" + old.message)
