# SPDX-License-Identifier: Apache-2.0
"""The whole way of a maintainer, from the plan to the way back, in the words of each verb."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import kit, world
from .generator import advance, change, git, tip
from .kit import Case
from .world import BRANCH, land, repin


def must(case: Case, verb: str, *options: str) -> str:
    ran = case.run(verb, *options)
    assert ran.code == 0, f"{verb}: {ran.out}{ran.err}"
    return ran.out


def proved(case: Case, ref: str = "main") -> None:
    assert must(case, "verify", "--ref", ref).splitlines()[-1] == "proved"


@pytest.mark.parametrize(
    ("host", "source"),
    [("plain", "merges"), ("submodule_only", "plain"), ("colliding", "host_names")],
)
def test_from_plan_to_rollback(tmp_path: Path, host: str, source: str) -> None:
    """One test on purpose: each verb begins where the one before left the host."""
    case = begin(tmp_path, host, source)
    must(case, "import")
    proved(case, BRANCH)
    land(case)
    change(case.host, {"rust/host.txt": b"host\n", "README.md": b"both\n"}, "rust: our own\n")
    git(case.host, "reset", "--quiet", "--hard")
    upstream, pinned = advance(case.source, 3), case.config.read_bytes()
    assert "3 commits ahead" in must(case, "status")
    repin(case, engine__use="both")
    before = tip(case.host, BRANCH)
    must(case, "sync")
    proved(case, BRANCH)
    assert must(case, "export", "--ref", BRANCH).startswith("export ")
    exported = "refs/imports/frontend/export"
    assert case.git("merge-base", upstream, exported) == upstream
    assert case.git("rev-parse", f"{exported}^{{tree}}") == case.git("rev-parse", f"{BRANCH}:rust")
    assert must(case, "rollback").startswith("undone ")
    case.config.write_bytes(pinned)
    proved(case)
    assert tip(case.host, BRANCH) == before
    assert case.run("rollback").code == 2


def begin(folder: Path, host: str, source: str) -> Case:
    """A plan changes nothing."""
    kit.make_source(source, folder / "source")
    kit.make_host(host, folder / "host", folder / "source")
    case = world.configure(folder, engine__use="both")
    before = kit.state(case.host)
    must(case, "plan")
    assert kit.state(case.host) == before
    return case


def test_the_plan_knows_the_tip(tmp_path: Path) -> None:
    case = begin(tmp_path, "plain", "plain")
    forecast = case.run("plan", "--json").data["result"]["tip"]
    must(case, "import")
    assert case.git("rev-parse", "refs/imports/frontend/tip") == forecast


def test_squash_detected_then_rescued(tmp_path: Path) -> None:
    """What a check on main says after the wrong button, and what then helps."""
    case = world.imported(tmp_path)
    tree = case.git("rev-parse", f"{BRANCH}^{{tree}}")
    squash = git(case.host, "commit-tree", tree, "-p", "main", "-m", "Import (#1)")
    git(case.host, "update-ref", "refs/heads/main", squash)
    git(case.host, "update-ref", "-d", BRANCH)
    git(case.host, "reset", "--quiet", "--hard")
    ran = case.run("verify", "--ref", "main")
    assert (ran.code, "squashed" in ran.out + ran.err) == (1, True)
    must(case, "rescue")
    assert squash not in case.git("blame", "-l", "--root", "main", "--", "rust/src/lib.rs")
