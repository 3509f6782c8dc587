# SPDX-License-Identifier: Apache-2.0
"""A landing that brought the files without their history, and what rescue gave back since.

Owns how `status` finds both by trees and refs. It must not know what is then advised.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import refs, standing
from .config import Config
from .git import Repository
from .standing import Standing

REPLACE = "refs/replace/"


@dataclass(frozen=True)
class Squash:
    commit: str
    replaced_by: str = ""  # rescue's ref, where the history is there through it


def find(config: Config, host: Repository, found: Standing) -> Squash | None:
    """Nothing where the base has the history, or does not have the files."""
    tip = standing.imported_tip(config, host)
    if tip and host.is_ancestor(tip, found.base.tip):
        return None
    line = _line(config, host, found)
    for oid in line:
        if _rescued(config, host, oid, tip):
            return Squash(oid, REPLACE + oid)
    wanted = _tree(config, host, tip) if tip else None
    same = (oid for oid in line if wanted and _tree(config, host, oid) == wanted)
    squash = next(same, None)
    return Squash(squash) if squash else None


def _line(config: Config, host: Repository, found: Standing) -> list[str]:
    """Commits of the base that changed the prefix since the last join that did land."""
    since = [f"^{found.base.records[0].commit}"] if found.base.records else []
    path = f":(top,literal){config.target.prefix}"
    ask = ["rev-list", "--first-parent", found.base.tip, *since, "--", path]
    return host.git(*ask).decode().split()


def _rescued(config: Config, host: Repository, squash: str, tip: str | None) -> bool:
    """A replacement that adds the imported tip as one more parent and changes no file."""
    made = refs.current(host, REPLACE + squash)
    if made is None:
        return False
    with host.objects() as objects:
        old, new = objects.commit(squash), objects.commit(made)
    if new.tree != old.tree or len(new.parents) != len(old.parents) + 1:
        return False
    added = new.parents[-1]
    if list(new.parents[:-1]) != list(old.parents):
        return False
    if tip:
        return added == tip
    return _tree(config, host, added) == _tree(config, host, squash)


def _tree(config: Config, host: Repository, commit: str) -> str | None:
    entry = standing.prefix_entry(config, host, commit)
    return entry.oid if entry and entry.is_tree else None
