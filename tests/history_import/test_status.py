# SPDX-License-Identifier: Apache-2.0
"""`status`: one state, one distance, one next command for each place on the way."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from . import kit, world
from .generator import advance, change, force_back, git, tip
from .kit import Case
from .test_rescue import squash
from .world import land, repin


def status(case: Case, *options: str) -> Any:
    before = kit.state(case.host)
    ran = case.run("status", "--json", *options)
    assert ran.code == 0, ran.err
    assert kit.state(case.host) == before
    return ran.data["result"]


@pytest.mark.parametrize(
    ("host", "state", "command"),
    [
        ("plain", "absent", "history-import plan"),
        ("submodule", "a submodule", "history-import plan"),
        ("occupied", "other content", "choose another target.prefix than rust"),
    ],
)
def test_before_an_import(tmp_path: Path, host: str, state: str, command: str) -> None:
    found = status(kit.case(tmp_path, host))
    assert (found["state"], found["joins"]) == (state, 0)
    assert found["next"].startswith(command)


def test_on_the_branch_then_landed(tmp_path: Path) -> None:
    case = world.imported(tmp_path)
    found = status(case)
    assert (found["state"], found["behind"], found["commits"]) == ("on the branch", 0, 12)
    assert "with a MERGE COMMIT" in found["next"]
    found = status(land(case))
    assert found["state"] == "landed"
    assert found["next"].startswith("nothing;")


@pytest.mark.parametrize("originals", [True, False])
def test_behind_the_source(tmp_path: Path, originals: bool) -> None:
    case = world.landed(tmp_path, keep__originals=originals)
    later = advance(case.source, 3)
    found = status(case)
    assert (found["behind"], found["source_tip"]) == (3, later)
    assert found["next"].startswith(f'set source.pin = "{later}"')
    assert status(repin(case, keep__originals=originals))["next"].startswith("history-import sync")


@pytest.mark.parametrize("originals", [True, False])
def test_a_force_pushed_source_is_said(tmp_path: Path, originals: bool) -> None:
    """sync refuses it, so it is not advised, whatever the pin says."""
    case = world.landed(tmp_path, keep__originals=originals)
    imported = tip(case.source)
    git(case.host, "gc", "--quiet", "--prune=now")
    force_back(case.source, 2, instead=1)
    for _ in range(2):
        found = status(case)
        assert found["behind"] is None
        assert f"force-pushed: {imported[:12]}, which is imported," in found["note"]
        assert found["next"].startswith("pin a commit that has it")
        repin(case, keep__originals=originals)


def test_squashed(tmp_path: Path) -> None:
    case = world.imported(tmp_path)
    squash(case)
    found = status(case)
    assert (found["state"], found["next"][:21]) == ("squashed", "history-import rescue")


def test_a_source_out_of_reach_is_said(tmp_path: Path) -> None:
    case = world.landed(tmp_path)
    shutil.rmtree(case.source)
    assert "did not answer" in status(case)["note"]
    assert status(case, "--offline")["note"] == ""


def test_for_people(tmp_path: Path) -> None:
    case = world.landed(tmp_path)
    lines = case.run("status").out.splitlines()
    assert lines[0] == "import  frontend into rust/: landed on main"
    assert lines[1] == f"has     {tip(case.source)[:12]}   12 commits, 1 merge"


def test_a_squashed_sync(tmp_path: Path) -> None:
    case = world.landed(tmp_path)
    advance(case.source, 2)
    assert repin(case).run("sync").code == 0
    squash(case)
    found = status(case)
    assert (found["state"], found["next"][:21]) == ("squashed", "history-import rescue")


def test_squashed_with_the_branch_still_there(tmp_path: Path) -> None:
    case = world.imported(tmp_path)
    branch = tip(case.host, world.BRANCH)
    squash(case)
    git(case.host, "update-ref", world.BRANCH, branch)
    found = status(case)
    assert (found["state"], found["next"][:21]) == ("squashed", "history-import rescue")


def test_a_sync_on_the_branch_with_the_same_files_as_before_is_no_squash(tmp_path: Path) -> None:
    case = world.landed(tmp_path)
    for content in (b"1\n", None):
        change(case.source, {"extra.txt": content}, "there and gone\n")
    assert repin(case).run("sync").code == 0
    assert status(case)["state"] == "on the branch"


@pytest.mark.parametrize("known", [True, False])
def test_rescued(tmp_path: Path, known: bool) -> None:
    """Also in a clone that has the replace ref and no other ref of the import."""
    case = world.imported(tmp_path)
    made = squash(case)
    assert case.run("rescue").code == 0
    if not known:
        forget(case)
    found = status(case)
    assert found["state"] == "rescued"
    assert found["next"].startswith(f"git push REMOTE refs/replace/{made}")


def forget(case: Case) -> None:
    for ref in case.git("for-each-ref", "--format=%(refname)", "refs/imports").split():
        git(case.host, "update-ref", "-d", ref)


def test_without_the_refs_a_squash_cannot_be_told_from_other_content(tmp_path: Path) -> None:
    case = world.imported(tmp_path)
    squash(case)
    forget(case)
    found = status(case)
    assert found["state"] == "other content"
    assert "if it is a squashed import: history-import rescue" in found["next"]
