# SPDX-License-Identifier: Apache-2.0
"""Point 16: only the declared refs moved, the source is as it was, and nothing is half-done.

Owns the comparison of refs and the look into the host's git folder. It must not read commits,
except to see that an import ref belongs to the import.
"""

from __future__ import annotations

from pathlib import Path

from ..git import Repository
from . import rescued
from .evidence import Evidence
from .result import Check, Point

Refs = dict[bytes, str]
UNFINISHED = (
    "MERGE_HEAD",
    "CHERRY_PICK_HEAD",
    "REVERT_HEAD",
    "rebase-merge",
    "rebase-apply",
    "sequencer",
    "index.lock",
    "HEAD.lock",
    "packed-refs.lock",
    "shallow.lock",
)


def unchanged(
    evidence: Evidence, before: Refs | None, source: Path | None, source_before: Refs | None
) -> Point:
    check = Check(16)
    _host_refs(check, evidence, before)
    _import_refs(check, evidence)
    _source_refs(check, source, source_before)
    _unfinished(check, evidence.host)
    return check.point("no replaced commits, nothing half-done")


def declared(evidence: Evidence, name: bytes) -> bool:
    own, target = evidence.rules.name, evidence.rules.target
    branches = {target.branch, evidence.given.target.branch}
    allowed = (f"refs/imports/{own}/", f"refs/backup/history-import/{own}/")
    text = name.decode("utf-8", "backslashreplace")
    return text.startswith(allowed) or text in {f"refs/heads/{branch}" for branch in branches}


def _host_refs(check: Check, evidence: Evidence, before: Refs | None) -> None:
    now = evidence.host.refs()
    for name in rescued.misleading(evidence.host, evidence.store):
        check.wrong(f"{_shown(name)} changes what git shows of the history")
    if before is None:
        check.note("no listing of refs from before to compare with")
        return
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name) and not declared(evidence, name):
            old, new = before.get(name, "nothing"), now.get(name, "nothing")
            check.wrong(f"{_shown(name)} moved from {old[:12]} to {new[:12]}")
    check.counts["refs"] = len(now)


def _import_refs(check: Check, evidence: Evidence) -> None:
    """Where they are, they belong to this import; a later sync may not have landed yet."""
    place = f"refs/imports/{evidence.rules.name}"
    tip = evidence.host.resolve(f"{place}/tip")
    last = evidence.last.tip
    if tip and tip != last and not evidence.store.is_ancestor(last, tip):
        check.wrong(f"{place}/tip is {tip[:12]}, which does not have the imported tip {last[:12]}")
    if evidence.host.resolve(f"{place}/map"):
        _map(check, evidence, f"{place}/map")


def _map(check: Check, evidence: Evidence, ref: str) -> None:
    """A convenience for others; nothing here is proved by it."""
    rows = evidence.host.git("cat-file", "blob", ref).decode("ascii", "replace").splitlines()
    stored = dict(row.partition(" ")[::2] for row in rows)
    wrong = [oid for oid, image in evidence.pairing.images.items() if stored.get(oid) != image]
    if wrong:
        check.wrong(f"{ref} is wrong for {len(wrong):,} commits, first {wrong[0][:12]}")


def _source_refs(check: Check, source: Path | None, before: Refs | None) -> None:
    if source is None or before is None:
        return
    if Repository(source).refs() != before:
        check.wrong("the source's refs are not what they were")
    check.counts["source refs"] = len(before)


def _unfinished(check: Check, host: Repository) -> None:
    folders = {host.git_dir(), host.common_dir()}
    for name in UNFINISHED:
        if any((folder / name).exists() for folder in folders):
            check.wrong(f"the host has {name}: something is half-done or runs right now")
    for lock in sorted((host.common_dir() / "refs").rglob("*.lock")):
        check.wrong(f"the host has {lock.relative_to(host.common_dir())}, left by something killed")


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
