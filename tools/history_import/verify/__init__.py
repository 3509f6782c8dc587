# SPDX-License-Identifier: Apache-2.0
"""Proves an imported history: the sixteen points, from the source's objects, the host's graph and
the configuration alone.

Owns its own recomputation of every message, tree and id. It must not know the code that wrote the
history: of the tool it may import config, errors, git and progress only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..config import Config
from ..errors import Refused
from ..git import Repository
from . import (
    attribution,
    blobs,
    content,
    evidence,
    graph,
    joins,
    mapping,
    people,
    refs,
    rescued,
    revisions,
    squash,
    store,
)
from . import (
    host as host_line,
)
from .evidence import Evidence, Request
from .options import add_arguments as add_options
from .options import read_refs
from .result import NAMES, Check, Point, VerifyResult, unchecked
from .trees import Trees

__all__ = ["Point", "VerifyResult", "add_options", "command", "run"]


def command(config: Config, host: Repository, options: argparse.Namespace) -> VerifyResult:
    return run(
        config,
        host,
        options.ref,
        options.source,
        read_refs(options.refs_before),
        source_refs_before=read_refs(options.source_refs_before),
        blame=not options.no_blame,
        sample=options.sample,
        fetch=not options.no_fetch,
    )


def run(
    config: Config,
    host: Repository,
    ref: str,
    source: Path | None = None,
    refs_before: dict[bytes, str] | None = None,
    *,
    source_refs_before: dict[bytes, str] | None = None,
    blame: bool = True,
    sample: int | None = None,
    fetch: bool = True,
) -> VerifyResult:
    store.require_whole(host)
    tip = host.resolve(f"{ref}^{{commit}}")
    if tip is None:
        raise Refused(f"the host has no commit {ref}", "name a branch with --ref")
    with store.scratch() as folder:
        here = store.view(folder / "host.git", host)
        found = joins.find(here, tip, config.name)
        there = store.source_view(folder / "source.git", config, host, source, fetch)
        if why := squashed(config, here, there, ref, tip, found):
            mended = rescued.join(config, host, here, there, tip, found)
            if mended is None:
                return without_history(config, ref, tip, found, why)
            found = joins.Found([*found.joins, mended], [])
        if not found.joins:
            raise Refused(f"no import {config.name} in {ref}", "history-import plan, then import")
        request = asked(config, host, here, there, ref, tip, found.joins)
        gathered = evidence.gather(request)
        points = prove(gathered, source, refs_before, source_refs_before, blame, sample)
    lines = tuple(join.line() for join in found.joins)
    return VerifyResult(config.name, ref, tip, lines, tuple(points))


def asked(
    config: Config,
    host: Repository,
    here: Repository,
    there: Repository,
    ref: str,
    tip: str,
    found: list[joins.Join],
) -> Request:
    counts = joins.configuration_of(found[-1], config, host, here, tip)
    return Request(config, counts or config, counts is not None, host, here, there, ref, tip, found)


def squashed(
    config: Config,
    here: Repository,
    there: Repository,
    ref: str,
    tip: str,
    found: joins.Found,
) -> str:
    if found.without_history:
        return squash.by_message(found.without_history, ref)
    pin = config.source.pin
    last = found.joins[-1] if found.joins else None
    if not store.has(there, pin) or (last and brought(there, last, pin)):
        return ""
    source = graph.read(there, pin)
    # Of a sync that was squashed, the pin's content is looked for, which no join brought.
    sources = [pin] if last else source.oids
    wanted = {source.parts(oid).tree: oid for oid in sources}
    prefix = config.target.prefix.encode()
    since = last.oid if last else ""
    why = squash.by_content(here, ref, tip, prefix, wanted, since)
    copied = squash.copies(here, tip, prefix, source, since) if why else []
    return squash.by_rebase(copied, ref) if copied else why


def brought(there: Repository, last: joins.Join, pin: str) -> bool:
    if last.commit == pin:
        return True
    return store.has(there, last.commit) and there.is_ancestor(pin, last.commit)


def without_history(
    config: Config, ref: str, tip: str, found: joins.Found, why: str
) -> VerifyResult:
    check = Check(1)
    check.wrong(why if why.startswith(squash.REBASED) else f"squashed: {why}")
    others = [unchecked(n, "the history is not there") for n in NAMES if n != 1]
    lines = tuple(join.line() for join in found.joins)
    return VerifyResult(config.name, ref, tip, lines, (check.point(), *others), why)


def prove(
    proved: Evidence,
    source: Path | None,
    refs_before: dict[bytes, str] | None,
    source_refs_before: dict[bytes, str] | None,
    blame: bool,
    sample: int | None,
) -> list[Point]:
    with proved.store.objects() as objects:
        known = Trees(objects)
        points = [
            mapping.one_image_each(proved),
            mapping.parents(proved),
            *content.trees(proved, known),
            people.people(proved),
            people.texts(proved),
            mapping.recomputed_ids(proved),
            host_line.own_line(proved, known, refs_before),
            host_line.at_the_prefix(proved, known),
            mapping.earlier_imports(proved),
            host_line.no_submodule(proved, known),
            people.signatures(proved),
            blobs.weight_and_rights(proved),
            attribution.blame_and_log(proved, known, blame, sample),
            revisions.ignored_revisions(proved, known),
            refs.unchanged(proved, refs_before, source, source_refs_before),
        ]
    return sorted(points, key=lambda point: point.number)
