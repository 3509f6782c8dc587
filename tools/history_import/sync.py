# SPDX-License-Identifier: Apache-2.0
"""`sync`: the whole import again at a later commit, then one ordinary merge of what is new.

Owns the order from the recomputed images to the refs. It must not know how images are made, how
trees are merged or why two imports differ.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from typing import Any

from . import (
    ancestry,
    checks,
    closure,
    engines,
    ignored,
    importing,
    join,
    merging,
    profile,
    refs,
    standing,
)
from .checks import Prefix
from .config import Config
from .errors import Refused
from .git import Repository
from .importing import Joined
from .merging import Merge
from .plan_lines import count
from .prepare import Prepared
from .refs import RefUpdate
from .scratch import Scratch
from .stage import Stage
from .standing import Line
from .steps import at

# In the stage: where a person fetches the image from to resolve a conflict.
OFFERED = "refs/heads/sync-image"


@dataclass(frozen=True)
class Nothing:
    name: str
    where: str
    source: str

    def lines(self) -> list[str]:
        return [f"nothing to do: {self.where} has {self.name} at {self.source[:12]}"]


@dataclass(frozen=True)
class Conflicted:
    """A person decides; nothing was changed."""

    name: str
    onto: str
    conflicts: dict[bytes, str]
    commands: list[str]
    exit_code: int = field(default=3, repr=False)

    def lines(self) -> list[str]:
        shown = [
            f"        {path.decode(errors='backslashreplace')}   ({kind})"
            for path, kind in self.conflicts.items()
        ]
        head = f"conflict in {count(len(self.conflicts), 'file')}; nothing was changed"
        steps = [f"        {command}" for command in self.commands]
        return [head, *shown, "next    resolve and commit, then hand the commit in:", *steps]


@dataclass(frozen=True)
class Synced:
    name: str
    target: str
    base: str
    branch: str
    onto: str
    join: Joined
    kept_deleted: int
    hand_made: bool
    proof: Any
    refs: list[RefUpdate]
    ignored_revisions: str = ""  # the file with ids that the host's own list lacks
    config: str = "CONFIG"

    def lines(self) -> list[str]:
        what = f"sync to {self.join.source[:8]}: {count(self.join.added, 'commit')}"
        lines = [f"{what} below {self.target}/, merged into {self.onto[:8]}"]
        if self.hand_made:
            lines.append("        resolved by hand, and marked so in the merge commit")
        if self.kept_deleted:
            files = count(self.kept_deleted, "file")
            lines.append(f"        {files} of the source stay deleted (target.detached)")
        if self.ignored_revisions:
            lines.append(f"        ids for the host's list of blame: {self.ignored_revisions}")
        lines += importing.proof_lines(self.proof) + importing.ref_lines(self.refs)
        lines.append(f"undo    history-import rollback {self.config}")
        push = f"git push REMOTE {self.branch}   then merge it into {self.base} with a MERGE COMMIT"
        return [*lines, f"next    {push} (not squash, not rebase)"]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--resolution",
        metavar="COMMIT-or-TREE",
        help="the tree of a conflicted sync, resolved by hand",
    )
    parser.add_argument(
        "--every-line",
        action="store_true",
        help="prove blame and log of every file, not of a sample",
    )


def run(
    config: Config, host: Repository, options: argparse.Namespace
) -> Nothing | Conflicted | Synced:
    checks.host(config, host)
    line = start(config, host)
    newest = line.records[0]
    if (newest.source_commit, newest.config) == (config.source.pin, config.digest):
        return Nothing(config.name, line.ref, newest.source_commit)
    prepared = prepare(config, host, line)
    stage = Stage(prepared.place, prepared.rewritten.objects, whole=False)
    at("sync.staged")
    ancestry.Found(stage.repository, config, newest, prepared.closure, prepared.rewritten).require()
    at("sync.ancestry")
    if prepared.rewritten.tip == newest.tip:
        return Nothing(config.name, line.ref, newest.source_commit)
    merge = merging.merge(stage.repository, config, line.tip, prepared.rewritten.tip)
    at("sync.merged")
    resolution = resolve(config, stage, line, merge, options.resolution)
    if merge.conflicts and resolution is None:
        return offer(config, stage, line, prepared, merge)
    extent = importing.extent(options, len(prepared.closure))
    return finish(config, stage, line, prepared, merge, resolution, extent)


def start(config: Config, host: Repository) -> Line:
    line = standing.require(config, host)
    if config.target.layout == "linear" or line.records[0].linear:
        raise Refused(
            "sync of a linear layout is not implemented: the host's own changes below the prefix "
            "stand on the imported line",
            'import with layout = "merge", whose later syncs are ordinary merges',
        )
    branch = host.resolve(refs.branch(config.target.branch))
    if branch and not host.is_ancestor(branch, line.tip):
        raise Refused(
            f"branch {config.target.branch} has commits that {line.ref} lacks",
            "land or delete that branch first",
        )
    _require_folder(config, host, line)
    return line


def _require_folder(config: Config, host: Repository, line: Line) -> None:
    """Merged without its folder, only the files that the source changed since would come back."""
    had = standing.prefix_entry(config, host, line.records[0].commit)
    has = standing.prefix_entry(config, host, line.tip)
    if (has and has.is_tree) or not (had and had.is_tree):
        return
    prefix, where = config.target.prefix, line.ref.removeprefix("refs/heads/")
    ask = ["rev-list", "-1", "--first-parent", line.tip, "--", f":(top,literal){prefix}"]
    gone = host.git(*ask).decode().strip()
    raise Refused(
        f"{where} has no folder {prefix}/ any more: {gone[:12]} removed or moved it, and a sync "
        "would bring back only what the source changed since",
        f"bring {prefix}/ back first (git revert {gone[:12]}, with -m 1 if it is a merge); a "
        "folder that is to stay moved cannot be synced",
    )


def prepare(config: Config, host: Repository, line: Line) -> Prepared:
    place = Scratch(host, config)
    place.prepare()
    at("sync.prepared")
    place.fetch()
    checks.space(place)
    found = closure.read(place.source, config.source.pin)
    checks.unrelated(config, line.tip, found)
    with engines.Engines(config, place, found) as running:
        about = profile.read(place.source, found)
        at("sync.profiled")
        checks.source(config, about)
        rewritten = running.finish()
    at("sync.rewritten")
    return Prepared(line.tip, place, found, about, Prefix("imported"), rewritten)


def resolve(
    config: Config, stage: Stage, line: Line, merge: Merge, given: str | None
) -> str | None:
    if given is None:
        return None
    if not merge.conflicts:
        raise Refused(
            "there is no conflict to resolve: git merges this sync by itself",
            "run sync without --resolution",
        )
    tree = stage.host.resolve(f"{given}^{{tree}}")
    if tree is None:
        raise Refused(f"the host has no commit or tree {given!r} (--resolution)")
    merging.resolved(stage.repository, config, line.tip, tree, merge)
    return tree


def offer(config: Config, stage: Stage, line: Line, prepared: Prepared, merge: Merge) -> Conflicted:
    """The image can be fetched from the stage, so that people resolve with what they know."""
    stage.set_refs({OFFERED: prepared.rewritten.tip})
    commands = [
        f"git switch -c resolve-sync {line.tip[:12]}",
        f"git fetch {stage.repository.path} {OFFERED}",
        "git merge FETCH_HEAD     # resolve, then commit",
        f"history-import sync {config.path or 'CONFIG'} --resolution resolve-sync",
    ]
    return Conflicted(config.name, line.tip, merge.conflicts, commands)


def finish(
    config: Config,
    stage: Stage,
    line: Line,
    prepared: Prepared,
    merge: Merge,
    resolution: str | None,
    extent: dict[str, Any],
) -> Synced:
    made = make_join(config, stage, line, prepared, resolution or merge.tree, resolution)
    at("sync.joined")
    wanted = importing.wanted_refs(config, stage, prepared, [made])
    proof = importing.prove(config, stage, wanted, **extent)
    updates = importing.finish(stage, wanted)
    offered = ignored.left_to_the_host(config, stage, line.tip, prepared)
    prepared.place.discard()
    at("sync.discarded")
    return Synced(
        config.name,
        config.target.prefix,
        config.target.base,
        config.target.branch,
        line.tip,
        made,
        merge.kept_deleted,
        resolution is not None,
        proof,
        updates,
        offered,
        str(config.path or "CONFIG"),
    )


def make_join(
    config: Config,
    stage: Stage,
    line: Line,
    prepared: Prepared,
    tree: str,
    resolution: str | None,
) -> Joined:
    pin, image, total = config.source.pin, prepared.rewritten.tip, len(prepared.closure)
    known = len(prepared.closure.ancestors_of(line.records[0].source_commit))
    commit = join.commit(
        stage.repository,
        config,
        join.person(stage.host),
        kind="sync",
        parents=[line.tip, image],
        tree=ignored.added(config, stage, line.tip, tree, prepared),
        source=pin,
        image=image,
        commits=total,
        engines=prepared.rewritten.engines,
        notes=importing.notes(config, prepared, "sync", image, total - known),
        resolution="hand-made" if resolution else "",
    )
    return Joined("sync", commit, pin, image, total, total - known)
