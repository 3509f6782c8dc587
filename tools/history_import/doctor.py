# SPDX-License-Identifier: Apache-2.0
"""`doctor`: what a former submodule left in a developer's clone, and how to get rid of it.

Reports by default; `--fix` mends what loses nobody's work and refuses the rest by name. Owns the
list of findings. It must not know imports: it looks at one clone and needs no configuration.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from . import in_use, submodules, trees
from .config import Config
from .errors import Refused
from .git import Repository
from .submodules import Submodule

CONFIG_OPTIONAL = True
REVS = ".git-blame-ignore-revs"
REVS_KEY = "blame.ignoreRevsFile"


@dataclass(frozen=True)
class Finding:
    kind: str
    where: str
    detail: str
    remedy: str
    blocked: str = ""  # why --fix leaves it alone
    fixed: bool = False

    def lines(self) -> list[str]:
        head = f"{self.kind:12} {self.where}: {self.detail}"
        if self.fixed:
            return [head, f"{'':12} done: {self.remedy}"]
        if self.blocked:
            return [head, f"{'':12} left alone: {self.blocked}"]
        return [head, f"{'':12} {self.remedy}"]


@dataclass(frozen=True)
class Health:
    clone: str
    findings: list[Finding]
    fix: bool

    @property
    def exit_code(self) -> int:
        """Refused only where mending was asked for and something was left alone."""
        return 2 if self.fix and any(one.blocked for one in self.findings) else 0

    def lines(self) -> list[str]:
        if not self.findings:
            return [f"{self.clone}: nothing is left of a submodule"]
        lines = [line for one in self.findings for line in one.lines()]
        waiting = any(not one.fixed and not one.blocked for one in self.findings)
        return [*lines, *(["next         history-import doctor --fix"] if waiting else [])]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fix", action="store_true", help="mend what loses nobody's work")
    parser.add_argument(
        "--ref",
        help="what will be pulled (default: the upstream of the current branch)",
    )


def run(config: Config | None, host: Repository, options: argparse.Namespace) -> Health:
    if host.line("rev-parse", "--is-bare-repository") == "true":
        raise Refused(f"{host.path} is bare", "doctor is for clones with a working tree")
    findings = list(examine(host, _next_state(host, options.ref)))
    if options.fix:
        findings = [_mend(host, one) for one in findings]
    return Health(str(host.path), findings, options.fix)


def _next_state(host: Repository, given: str | None) -> str | None:
    """What a pull would bring, if there is anything to pull from."""
    if given is None:
        return host.resolve("@{upstream}^{commit}")
    found = host.resolve(f"{given}^{{commit}}")
    if found is None:
        raise Refused(f"the clone has no {given!r} (--ref)", "git fetch first")
    return found


def examine(host: Repository, coming: str | None) -> Iterator[Finding]:
    linked = submodules.gitlinks(host, "HEAD") | in_use.staged(host)
    for one in submodules.known(host):
        if one.path not in linked:
            yield from _remnants(host, one, coming)
        elif coming and _is_folder(host, coming, one.path):
            yield from _in_the_way(host, one)
    yield from _ignored_revisions(host)


def _is_folder(host: Repository, commit: str, path: str) -> bool:
    with host.objects() as objects:
        entry = trees.lookup(objects, objects.commit(commit).tree, os.fsencode(path))
    return entry is not None and entry.is_tree


def _in_the_way(host: Repository, one: Submodule) -> Iterator[Finding]:
    """Git will not pull over an initialised submodule, clean or not."""
    if one.pointer is None:
        return
    yield Finding(
        "submodule",
        one.path,
        "is a submodule here and an ordinary folder in what will be pulled; the pull is refused",
        f"git submodule deinit -f {one.path}, then pull",
        "; ".join([*submodules.work(host, one, working_tree=True), *in_use.elsewhere(host, one)]),
    )


def _remnants(host: Repository, one: Submodule, coming: str | None) -> Iterator[Finding]:
    used = "; ".join(_users(host, one, coming))
    work = "; ".join(filter(None, [*submodules.work(host, one, working_tree=False), used]))
    state = "of a submodule that is not here" if used else "of a submodule that is gone"
    if one.pointer is not None:
        where = str(one.pointer.relative_to(host.path))
        folder = one.pointer.is_dir()
        detail = "a repository inside this one" if folder else "points to the former submodule"
        remedy = f"remove {where}; git status then shows what differs below {one.path}/"
        yield Finding("pointer", where, detail, remedy, work)
    if one.module is not None:
        where = str(one.module.relative_to(host.common_dir()))
        yield Finding("modules", where, state, "remove it", work)
    if one.section:
        command = f"git config --remove-section submodule.{one.name}"
        yield Finding("config", f"submodule.{one.name}", state, command, used)


def _users(host: Repository, one: Submodule, coming: str | None) -> list[str]:
    """Who else wants what is kept: gone here is not gone everywhere."""
    found = in_use.elsewhere(host, one) + in_use.branches(host, one)
    if coming and in_use.is_in(host, coming, one):
        found.append("a submodule in what will be pulled")
    return found


def _ignored_revisions(host: Repository) -> Iterator[Finding]:
    """Git reads a list of ids that do not exist without a word, and blames the wrong commit."""
    there = (host.path / REVS).is_file()
    set_to = host.git("config", "--get", REVS_KEY, user=True, check=False).decode().rstrip("\n")
    if set_to == REVS or (not set_to and not there):
        if set_to and not there:
            yield Finding("blame", REVS_KEY, f"{set_to} is not there", _unset())
        return
    if not set_to:
        yield Finding("blame", REVS_KEY, f"{REVS} is not used by git blame", _set())
    elif not (host.path / set_to).is_file():
        yield Finding("blame", REVS_KEY, f"{set_to} is not there", _set() if there else _unset())
    elif unknown := _unknown_ids(host, host.path / set_to):
        detail = f"{len(unknown)} ids of {set_to} are not in this repository"
        remedy = _set() if there else _unset()
        yield Finding("blame", REVS_KEY, f"{detail}, such as {unknown[0]}", remedy)


def _set() -> str:
    return f"git config {REVS_KEY} {REVS}"


def _unset() -> str:
    return f"git config --unset {REVS_KEY}"


def _unknown_ids(host: Repository, path: Path) -> list[str]:
    lines = (line.split(b"#")[0].strip() for line in path.read_bytes().splitlines())
    ids = [line.decode(errors="replace") for line in lines if line]
    return [oid for oid in ids if host.code("cat-file", "-e", f"{oid}^{{commit}}")]


def _mend(host: Repository, one: Finding) -> Finding:
    if one.blocked:
        return one
    target = host.path / one.where
    if one.kind == "submodule":
        host.git("submodule", "deinit", "-f", "--", one.where)
    elif one.kind == "pointer":
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    elif one.kind == "modules":
        shutil.rmtree(host.common_dir() / one.where)
    elif one.kind == "config":
        host.git("config", "--remove-section", one.where)
    elif one.remedy == _set():
        host.git("config", REVS_KEY, REVS)
    else:
        host.git("config", "--unset", REVS_KEY)
    return replace(one, fixed=True)
