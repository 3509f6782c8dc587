# SPDX-License-Identifier: Apache-2.0
"""`plan`: what an import would do, its future tip, and the files a maintainer needs beforehand.

Owns the forecast. Changes nothing but its own folder in the git directory, or the one named.
"""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import dataclass
from pathlib import Path

from . import imported, join, plan_files, prepare
from .checks import Prefix
from .config import Config
from .difference import Difference
from .git import ObjectReader, Repository
from .ignore_revs import Translated
from .plan_lines import lines
from .prepare import Prepared
from .profile import Profile

# Names at a host's root that mean: merges to its main branch start a release.
AUTOMATION = re.compile(
    rb"\.?release(rc|-please|-it)?(\..*)?|\.releaserc.*|\.changeset|lerna\.json"
)


@dataclass(frozen=True)
class Host:
    """What the plan says about the host."""

    base: str
    prefix: Prefix
    behind: int  # commits from the submodule's to the pin
    own_ignore_revs: bool
    same_names: list[bytes]  # at both roots
    automation: list[bytes]
    submodule_uses: list[bytes]


@dataclass(frozen=True)
class Plan:
    name: str
    source: str
    ref: str
    pin: str
    target: str
    base_branch: str
    branch: str
    layout: str
    tip: str  # the future refs/imports/NAME/tip
    engines: tuple[str, ...]
    difference: Difference | None
    added: int  # commits on the base's first-parent line
    qualified: int  # messages
    defused: int  # keywords
    translated: int  # ids in messages
    ignored_revs: Translated | None
    keeps_originals: bool
    profile: Profile
    host: Host
    folder: str
    already: str = ""  # the join, where this import is done

    def lines(self) -> list[str]:
        return lines(self)


def add_options(parser: argparse.ArgumentParser) -> None:
    help = "folder for the plan's files (default: history-import/NAME/plan in the git directory)"
    parser.add_argument("--plan-folder", type=Path, help=help)


def run(config: Config, host: Repository, options: argparse.Namespace) -> Plan | imported.Already:
    if done := imported.find(config, host):
        return done
    prepared = prepare.run(config, host)
    folder = getattr(options, "plan_folder", None) or prepared.place.plan_folder
    made = forecast(config, host, prepared, folder)
    plan_files.write(folder, config, prepared, made)
    return made


def forecast(config: Config, host: Repository, prepared: Prepared, folder: Path) -> Plan:
    rewrites = prepared.rewritten.rewrites.values()
    with prepared.place.source.objects() as objects:
        revs = join.translated_revs(objects, config, config.source.pin, prepared.rewritten.images)
    return Plan(
        name=config.name,
        source=join.source_name(config),
        ref=config.source.ref,
        pin=config.source.pin,
        target=config.target.prefix,
        base_branch=config.target.base,
        branch=config.target.branch,
        layout=config.target.layout,
        tip=prepared.rewritten.tip,
        engines=prepared.rewritten.engines,
        difference=prepared.rewritten.difference,
        added=added(config, prepared),
        qualified=sum(rewrite.qualified > 0 for rewrite in rewrites),
        defused=sum(rewrite.defused for rewrite in rewrites),
        translated=sum(rewrite.translated for rewrite in rewrites),
        ignored_revs=revs,
        keeps_originals=config.keep.originals,
        profile=prepared.profile,
        host=about_host(config, host, prepared),
        folder=shown(folder),
    )


def shown(folder: Path) -> str:
    """Relative where that is shorter to read and to type."""
    relative = os.path.relpath(folder)
    return str(folder) if relative.startswith("..") else relative


def added(config: Config, prepared: Prepared) -> int:
    if config.target.layout == "linear":
        return len(prepared.closure) + 1
    behind = prepared.prefix.submodule not in ("", config.source.pin)
    return 2 if behind else 1


def about_host(config: Config, host: Repository, prepared: Prepared) -> Host:
    with host.objects() as objects:
        names = root_names(objects, prepared.base)
    behind = 0
    if commit := prepared.prefix.submodule:
        behind = len(prepared.closure) - len(prepared.closure.ancestors_of(commit))
    mine = set(prepared.profile.root_names)
    return Host(
        base=prepared.base,
        prefix=prepared.prefix,
        behind=behind,
        own_ignore_revs=join.ignore_revs_name(config) in names,
        same_names=[name for name in names if name in mine],
        automation=[name for name in names if AUTOMATION.fullmatch(name)],
        submodule_uses=submodule_uses(host, prepared),
    )


def root_names(objects: ObjectReader, commit: str) -> list[bytes]:
    return [entry.name for entry in objects.tree(objects.commit(commit).tree)]


def submodule_uses(host: Repository, prepared: Prepared) -> list[bytes]:
    """A left-over `submodule update` in some script breaks the day after."""
    if not prepared.prefix.submodule:
        return []
    words = ["grep", "-l", "-z", "-I", "-i", "-e", "submodule", prepared.base, "--"]
    found = host.git(*words, ":!.gitmodules", check=False).split(b"\0")
    return [name.partition(b":")[2] for name in found if name]
