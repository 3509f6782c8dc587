# SPDX-License-Identifier: Apache-2.0
"""Whether the host has this import already: on its base, or on the branch made for it.

Owns "nothing to do" and the refusals beside it. Reads joins; knows nothing of how they are made.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import checks, record, refs
from .config import Config
from .errors import Refused
from .git import Repository
from .record import Record


@dataclass(frozen=True)
class Already:
    name: str
    where: str
    commit: str
    tip: str

    def lines(self) -> list[str]:
        return [f"nothing to do: {self.where} has {self.name} (join {self.commit[:8]})"]


def find(config: Config, host: Repository) -> Already | None:
    """Nothing where the way is free; refuses where something else is in it."""
    for name in (config.target.base, config.target.branch):
        if host.resolve(f"{refs.branch(name)}^{{commit}}") is None:
            continue
        records = record.find(host, refs.branch(name), config.name)
        if records:
            return _same(config, name, records[0])
        if name == config.target.branch:
            checks.branch(config, host)
            raise Refused(
                f"branch {name} exists and is no import of {config.name}",
                f"delete it (git branch -D {name}) or set another target.branch",
            )
    return None


def _same(config: Config, name: str, found: Record) -> Already:
    if (found.source_commit, found.config) == (config.source.pin, config.digest):
        return Already(config.name, name, found.commit, found.tip)
    if found.source_commit != config.source.pin:
        raise Refused(
            f"{name} has {config.name} already, at {found.source_commit[:12]}",
            "bring what is newer with: history-import sync",
        )
    raise Refused(
        f"{name} has {config.name} already, made with another configuration "
        f"(sha256:{found.config[:12]}, this is {config.digest[:12]})",
        "use that version of the file, or roll the import back first",
    )
