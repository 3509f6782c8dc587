# SPDX-License-Identifier: Apache-2.0
"""The way back: what the host did below the prefix, as commits on top of the source's own tip.

A commit of the host becomes one whose tree is its prefix and whose parents are what its parents
became; one that changes nothing there becomes its parent. The source's signed commits are not made
again, so the result is a fast-forward of them, and a sync after it finds its own commits. Owns
`refs/imports/NAME/export`; never pushes.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from . import refs, replay, standing
from .config import Config
from .errors import ProofFailed, Refused
from .git import Repository
from .plan_lines import count
from .record import Record
from .replay import Replay


@dataclass(frozen=True)
class Exported:
    name: str
    prefix: str
    url: str
    onto: str  # the source's commit
    tip: str
    commits: int
    merges: int
    both: int  # commits that also change files outside the prefix
    ref: str
    changed: bool
    subjects: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        if not self.commits:
            return [f"nothing to export: {self.prefix}/ is what {self.onto[:8]} has"]
        merges = f", {self.merges} of them merges" if self.merges else ""
        about = f"{count(self.commits, 'commit')}{merges}, onto {self.onto[:8]}"
        state = "" if self.changed else " (as it was)"
        lines = [f"export  {about}", *(f"        {line}" for line in self.subjects)]
        if self.both:
            what = "also change files outside; their messages go as they are"
            lines.append(f"note    {self.both} of them {what}")
        lines.append(f"refs    {self.ref} = {self.tip[:8]}{state}")
        push = f"git push {self.url} {self.ref}:refs/heads/BRANCH"
        return [*lines, f"next    {push}   (a fast-forward; the source decides)"]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ref", help="the host's branch to export (default: the newest line)")
    offline = "compare with the imported commit instead of asking the source for its present tip"
    parser.add_argument("--offline", action="store_true", help=offline)


def run(config: Config, host: Repository, options: argparse.Namespace) -> Exported:
    line = chosen(config, host, options.ref)
    newest = line.records[0]
    _bring_original(config, host, newest)
    done = Replay(host, config, line.records).run(line.tip)
    _prove(config, host, line.tip, newest, done)
    if not options.offline:
        _refuse_unless_forward(config, host, done.tip)
    return _finish(config, host, newest, done)


def chosen(config: Config, host: Repository, ref: str | None) -> standing.Line:
    if ref is None:
        return standing.require(config, host)
    tip = host.resolve(f"{ref}^{{commit}}")
    line = standing.line(config, host, tip) if tip else None
    if line is None:
        raise Refused(f"the host has no {ref!r} (--ref)")
    if not line.records:
        raise Refused(f"no import {config.name!r} on {ref}", "history-import status CONFIG")
    return line


def _bring_original(config: Config, host: Repository, newest: Record) -> None:
    """Where originals were not kept, the objects alone; the export ref will hold them."""
    if host.code("cat-file", "-e", f"{newest.source_commit}^{{tree}}") == 0:
        return
    options = ["--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"]
    host.git("fetch", *options, "--", config.source.url, config.source.ref, user=True)
    if host.code("cat-file", "-e", f"{newest.source_commit}^{{tree}}"):
        raise Refused(
            f"{newest.source_commit}, which the import brought, is not in {config.source.url}",
            "keep.originals = true keeps it in the host",
        )


def _prove(config: Config, host: Repository, tip: str, newest: Record, done: replay.Done) -> None:
    """Read back from the repository, not from what the replay remembers."""
    if not host.is_ancestor(newest.source_commit, done.tip):
        raise ProofFailed(f"{done.tip} is not a fast-forward of {newest.source_commit}")
    entry = standing.prefix_entry(config, host, tip)
    ours, theirs = (entry.oid if entry else None), host.resolve(f"{done.tip}^{{tree}}")
    if ours != theirs and not config.target.detached:
        raise ProofFailed(f"the tree of {done.tip} is {theirs}, the host's prefix is {ours}")


def _refuse_unless_forward(config: Config, host: Repository, tip: str) -> None:
    """The source may have gone on, or back, since the import."""
    url, ref = config.source.url, config.source.ref
    said = host.git("ls-remote", "--", url, ref, user=True).split()
    present = said[0].decode() if said else None
    if present is None:
        raise Refused(f"{url} has no {ref}", "correct source.ref, or give --offline")
    known = host.code("cat-file", "-e", f"{present}^{{commit}}") == 0
    if not known or not host.is_ancestor(present, tip):
        raise Refused(
            f"not a fast-forward: {ref} of {url} is at {present}, which the export does not have",
            "pin it and run history-import sync first",
        )


def _finish(config: Config, host: Repository, newest: Record, done: replay.Done) -> Exported:
    ref = refs.imports(config.name, "export")
    ask = ["rev-list", "--topo-order", "--reverse", done.tip, "--not", newest.source_commit, "--"]
    new = host.git(*ask).decode().split()
    updates = refs.plan(host, {ref: done.tip}) if new else []
    refs.transaction(host, updates)
    return Exported(
        config.name,
        config.target.prefix,
        config.source.url,
        newest.source_commit,
        done.tip,
        len(new),
        len(done.merges.intersection(new)),
        len(done.both.intersection(new)),
        ref,
        bool(updates),
        _subjects(host, new),
    )


def _subjects(host: Repository, made: Iterable[str]) -> list[str]:
    with host.objects() as objects:
        named = [(oid, objects.commit(oid).subject) for oid in made]
    return [f"{oid[:8]} {os.fsdecode(subject)}" for oid, subject in named]
