# SPDX-License-Identifier: Apache-2.0
"""The verbs after an import, on every source of the generator; the others have their own tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import world
from .generator import advance, change, git, tip
from .generator.sources import QUICK_SOURCES
from .test_rescue import squash
from .world import BRANCH, TIP, repin

EXPORT = "refs/imports/frontend/export"


@pytest.mark.parametrize("kind", QUICK_SOURCES)
def test_sync_export_status_doctor_rollback(kind: str, tmp_path: Path) -> None:
    case = world.landed(tmp_path, source=kind)
    change(case.host, {"rust/the hosts.txt": b"1\n", "README.md": b"1\n"}, "rust: our own (#5)\n")
    git(case.host, "reset", "--quiet", "--hard")
    advance(case.source, 2)
    before = tip(case.host, BRANCH)
    synced = repin(case).run("sync")
    assert synced.code == 0, synced.err
    exported = case.run("export", "--ref", BRANCH)
    assert exported.code == 0, exported.err
    assert case.git("merge-base", tip(case.source), EXPORT) == tip(case.source)
    assert case.git("rev-parse", f"{EXPORT}^{{tree}}") == case.git("rev-parse", f"{BRANCH}:rust")
    assert case.run("status").out.startswith("import  frontend into rust/: on the branch")
    assert case.run("doctor").code == 0
    assert case.run("rollback").code == 0
    assert tip(case.host, BRANCH) == before


@pytest.mark.parametrize("kind", QUICK_SOURCES)
def test_rescue(kind: str, tmp_path: Path) -> None:
    case = world.imported(tmp_path, source=kind)
    squash(case)
    ran = case.run("rescue")
    assert ran.code == 0, ran.err
    wanted = git(case.host, "log", "--format=%H", TIP).splitlines()
    assert set(wanted) < set(git(case.host, "log", "--format=%H", "main").splitlines())
