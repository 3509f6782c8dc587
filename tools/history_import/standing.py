# SPDX-License-Identifier: Apache-2.0
"""Where an import stands in the host: on the base branch, only on its own branch, or nowhere.

Owns that question for the verbs that come after an import. It must not know what they do next.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from . import record, refs, trees
from .config import Config
from .errors import Refused
from .git import Repository
from .record import Record


@dataclass(frozen=True)
class Line:
    """One branch: its tip and the joins it has, newest first."""

    ref: str
    tip: str
    records: tuple[Record, ...]


@dataclass(frozen=True)
class Standing:
    base: Line
    branch: Line | None

    @property
    def newest(self) -> Line:
        """The line to go on from: the one that contains the other, else the base."""
        if self.branch and self.branch.records and len(self._only_branch) > 0:
            return self.branch
        return self.base

    @property
    def _only_branch(self) -> list[Record]:
        known = {one.commit for one in self.base.records}
        found = self.branch.records if self.branch else ()
        return [one for one in found if one.commit not in known]

    @property
    def landed(self) -> bool:
        return bool(self.base.records) and not self._only_branch


def of(config: Config, host: Repository) -> Standing:
    base = line(config, host, refs.branch(config.target.base))
    if base is None:
        raise Refused(
            f"the host has no branch {config.target.base!r} (target.base)",
            "fetch it, or correct target.base",
        )
    return Standing(base, line(config, host, refs.branch(config.target.branch)))


def line(config: Config, host: Repository, ref: str) -> Line | None:
    tip = host.resolve(f"{ref}^{{commit}}")
    return Line(ref, tip, tuple(record.find(host, tip, config.name))) if tip else None


def require(config: Config, host: Repository) -> Line:
    """The line to go on from, which must have the import."""
    found = of(config, host).newest
    if not found.records:
        raise Refused(
            f"no import {config.name!r} on {config.target.base} or {config.target.branch}",
            "history-import import CONFIG comes first; history-import status CONFIG says more",
        )
    return found


def imported_tip(config: Config, host: Repository) -> str | None:
    return refs.current(host, refs.imports(config.name, "tip"))


def prefix_entry(config: Config, host: Repository, commit: str) -> trees.TreeEntry | None:
    with host.objects() as objects:
        root = objects.commit(commit).tree
        return trees.lookup(objects, root, os.fsencode(config.target.prefix))
