# SPDX-License-Identifier: Apache-2.0
"""`rollback`: the refs as they were before the last import or sync, if nothing came after it.

Owns when that is possible, and what to do instead when it is not. Deletes no object.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, field

from . import checks, join, record, refs, standing
from .config import Config
from .errors import Refused
from .git import Repository
from .record import Record
from .refs import RefUpdate


@dataclass(frozen=True)
class RolledBack:
    name: str
    branch: str
    undone: str  # the join
    back_to: str  # what the base or branch was
    refs: list[RefUpdate] = field(default_factory=list)

    def lines(self) -> list[str]:
        shown = [f"undone  {self.undone[:12]} on {self.branch}"]
        for update in self.refs:
            state = f"back to {update.new[:8]}" if update.new else "deleted"
            shown.append(f"refs    {update.name}  {state}")
        return shown


def run(config: Config, host: Repository, options: argparse.Namespace) -> RolledBack:
    found = standing.of(config, host)
    if not found.base.records and not (found.branch and found.branch.records):
        raise Refused(f"no import {config.name!r} in the host", "there is nothing to roll back")
    undone = _undone(config, found)
    backup = refs.current(host, refs.backup(config.name, config.target.base))
    if backup is None or not host.is_ancestor(backup, undone.commit):
        raise Refused(
            f"{refs.backup(config.name, config.target.base)} does not say what was before "
            f"{undone.commit[:12]}",
            f"delete branch {config.target.branch} by hand if it is not wanted",
        )
    checks.branch(config, host)
    updates = _updates(config, host, backup)
    refs.transaction(host, updates)
    return RolledBack(config.name, config.target.branch, undone.commit, backup, updates)


def _undone(config: Config, found: standing.Standing) -> Record:
    """The last join, which must be the branch's tip and not be on the base."""
    newest = found.newest.records[0]
    if any(one.commit == newest.commit for one in found.base.records):
        raise _landed(config, newest)
    assert found.branch is not None
    if found.branch.tip != newest.commit:
        raise Refused(
            f"branch {config.target.branch} is not where the import left it: {newest.commit[:12]} "
            f"then, {found.branch.tip[:12]} now",
            f"git revert -m 1 {newest.commit[:12]} on that branch, or delete the branch",
        )
    return newest


def _landed(config: Config, newest: Record) -> Refused:
    where = f"{newest.commit[:12]} is part of {config.target.base}, which is never rewritten"
    if newest.linear:
        return Refused(where, f"git revert {newest.tip[:12]} and the imported commits before it")
    return Refused(
        where,
        f"git revert -m 1 {newest.commit[:12]} takes its files away again; to bring them back "
        "later, revert that revert (git will not merge the same commits twice)",
    )


def _updates(config: Config, host: Repository, backup: str) -> list[RefUpdate]:
    """Refs of an earlier import go back to it; those of a first one are deleted."""
    names = [os.fsdecode(name) for name in host.refs(refs.imports(config.name))]
    branch, kept = refs.branch(config.target.branch), refs.backup(config.name, config.target.base)
    wanted: dict[str, str | None] = dict.fromkeys([branch, *names, kept])
    if earlier := record.find(host, backup, config.name):
        wanted |= _earlier(config, host, earlier[0], wanted)
        wanted[branch] = _branch_before(config, host, backup)
        wanted[kept] = _stood_on(earlier)
    now = {name: refs.current(host, name) for name in wanted}
    changed = [(name, new) for name, new in wanted.items() if now[name] != new]
    return [RefUpdate(name, new, now[name]) for name, new in changed]


def _branch_before(config: Config, host: Repository, backup: str) -> str | None:
    """A sync of what was not landed stands on the branch, so that is where the branch was.

    One of what was landed stands on the base; where the branch was then, git's log of it says.
    Without a log it goes: whatever it had is on the base.
    """
    if not host.is_ancestor(backup, refs.branch(config.target.base)):
        return backup
    ref = refs.branch(config.target.branch)
    log = host.common_dir() / "logs" / ref
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    now = refs.current(host, ref)
    for old, new in (line.split(" ")[:2] for line in reversed(lines)):
        if new == now and old == refs.ABSENT:
            return None
        if new == now and host.is_ancestor(old, backup):  # not a later sync, itself rolled back
            return old
    return None


def _stood_on(earlier: list[Record]) -> str:
    """The host's tip before the earlier run, which may have made a switch and then a sync."""
    first = earlier[0].parents[0]
    switch = next((one for one in earlier if one.commit == first and one.kind == "switch"), None)
    return switch.parents[0] if switch else first


def _earlier(
    config: Config, host: Repository, one: Record, wanted: dict[str, str | None]
) -> dict[str, str | None]:
    tip, original, known = (refs.imports(config.name, x) for x in ("tip", "original", "map"))
    found: dict[str, str | None] = {tip: one.tip}
    if original in wanted:
        found[original] = one.source_commit
    if known in wanted:
        found[known] = _shorter_map(host, known, one)
    return found | {
        name: kept for name in wanted if (kept := _still_there(config, host, name, one))
    }


def _still_there(config: Config, host: Repository, name: str, one: Record) -> str | None:
    """An export is no part of an import; a tag stays where its commit does."""
    now = refs.current(host, name)
    if name == refs.imports(config.name, "export"):
        return now
    tag = name.startswith(refs.imports(config.name, "tags/"))
    return now if tag and now and host.is_ancestor(now, one.tip) else None


def _shorter_map(host: Repository, ref: str, one: Record) -> str:
    """Without the commits that the undone sync had brought."""
    images = set(host.git("rev-list", one.tip, "--").split())
    lines = host.git("cat-file", "blob", ref).splitlines(keepends=True)
    kept = b"".join(line for line in lines if line.split()[1] in images)
    return join.write(host, "blob", kept)
