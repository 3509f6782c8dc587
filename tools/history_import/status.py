# SPDX-License-Identifier: Apache-2.0
"""`status`: what is imported, where, how far behind the source it is, and the next command.

Reads only; the source is asked for its tip and, to count, fetched into a folder that goes again.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

from . import refs, scratch, squashes, standing
from .config import Config
from .errors import GitFailed
from .git import Repository
from .plan_lines import count
from .record import Record
from .scratch import Scratch
from .squashes import Squash
from .standing import Standing


@dataclass(frozen=True)
class Status:
    name: str
    target: str
    state: str  # absent, other content, squashed, rescued, on the branch, landed
    where: str
    source: str  # the imported commit of the source
    commits: int
    joins: int
    pinned: str
    source_tip: str  # "" where it was not asked or did not answer
    behind: int | None
    note: str
    next: str

    def lines(self) -> list[str]:
        lines = [f"import  {self.name} into {self.target}/: {self.state}{self.where}"]
        if self.source:
            counted = f"{count(self.commits, 'commit')}, {count(self.joins, 'merge')}"
            lines.append(f"has     {self.source[:12]}   {counted}")
        if self.source_tip:
            behind = "" if self.behind is None else f"   {count(self.behind, 'commit')} ahead"
            lines.append(f"source  {self.source_tip[:12]}{behind}")
        if self.note:
            lines.append(f"note    {self.note}")
        return [*lines, f"next    {self.next}"]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--offline", action="store_true", help="do not ask the source")


def run(config: Config, host: Repository, options: argparse.Namespace) -> Status:
    found = standing.of(config, host)
    records = found.newest.records
    newest = records[0] if records else None
    squash = squashes.find(config, host, found)
    state, where = _state(config, host, found, squash)
    tip, behind, note = ("", None, "") if options.offline else _ask(config, host, newest)
    return Status(
        config.name,
        config.target.prefix,
        state,
        where,
        newest.source_commit if newest else "",
        newest.commits if newest else 0,
        len(records),
        config.source.pin,
        tip,
        behind,
        note,
        _next(config, state, squash, newest, tip, bool(tip) and behind is None),
    )


def _state(
    config: Config, host: Repository, found: Standing, squash: Squash | None
) -> tuple[str, str]:
    where = f" on {config.target.base}"
    if squash:
        by = squash.replaced_by
        return ("rescued", f"{where}, by {by}") if by else ("squashed", where)
    if found.landed:
        return "landed", where
    if found.newest.records:
        more = ", an earlier part on " + config.target.base if found.base.records else ""
        return "on the branch", f" {config.target.branch}{more}"
    entry = standing.prefix_entry(config, host, found.base.tip)
    if entry is None:
        return "absent", ""
    if entry.is_gitlink:
        return "a submodule", f" at {entry.oid[:12]}"
    return "other content", where


def _ask(config: Config, host: Repository, newest: Record | None) -> tuple[str, int | None, str]:
    """The source's tip and, where something is imported, how many commits came since."""
    url = Scratch(host, config).url
    try:
        said = host.git("ls-remote", "--", url, config.source.ref, user=True).split()
        if not said:
            return "", None, f"{url} has no {config.source.ref}"
        tip = said[0].decode()
        behind = _behind(config, host, url, newest, tip)
        return tip, behind, _force_pushed(config, newest) if newest and behind is None else ""
    except GitFailed:
        return "", None, f"{url} did not answer"


def _behind(
    config: Config, host: Repository, url: str, newest: Record | None, tip: str
) -> int | None:
    """With the host's originals beside it, only what is new is fetched.

    None where nothing is imported, or where the source has what is imported no more.
    """
    if newest is None or newest.source_commit == tip:
        return 0 if newest else None
    with tempfile.TemporaryDirectory() as folder:
        place = scratch.init_bare(Path(folder) / "status.git")
        scratch.add_alternate(place, host)
        if original := refs.current(host, refs.imports(config.name, "original")):
            place.git("update-ref", "refs/heads/original", original)
        options = ["--quiet", "--no-tags", "--no-write-fetch-head"]
        place.git(
            "fetch", *options, "--", url, f"+{config.source.ref}:refs/heads/source", user=True
        )
        if not place.is_ancestor(newest.source_commit, tip):
            return None
        counted = place.line("rev-list", "--count", tip, "--not", newest.source_commit)
    return int(counted)


def _force_pushed(config: Config, newest: Record) -> str:
    return (
        f"the source was force-pushed: {newest.source_commit[:12]}, which is imported, is not in "
        f"{config.source.ref} any more"
    )


def _next(
    config: Config,
    state: str,
    squash: Squash | None,
    newest: Record | None,
    tip: str,
    forced: bool,
) -> str:
    file = str(config.path or "CONFIG")
    if squash and squash.replaced_by:
        return f"git push REMOTE {squash.replaced_by}, if clones do not have it yet"
    if newest is None or squash:
        return {
            "squashed": f"history-import rescue {file}",
            "other content": f"choose another target.prefix than {config.target.prefix}; if it is "
            f"a squashed import: history-import rescue {file}",
        }.get(state, f"history-import plan {file}")
    return _after(config, state, newest, tip, forced)


def _after(config: Config, state: str, newest: Record, tip: str, forced: bool) -> str:
    """The next step where the host has the history, on its base or on the branch."""
    file = str(config.path or "CONFIG")
    if forced and (state == "landed" or newest.source_commit != config.source.pin):
        return "pin a commit that has it, or import again beside it under another name"
    if newest.source_commit != config.source.pin:
        return f"history-import sync {file}"
    if state == "on the branch":
        branch, base = config.target.branch, config.target.base
        return f"push {branch} and merge it into {base} with a MERGE COMMIT"
    if tip and tip != newest.source_commit:
        return f'set source.pin = "{tip}", then history-import sync {file}'
    return f"nothing; history-import verify {file} proves it again"
