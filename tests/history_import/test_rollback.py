# SPDX-License-Identifier: Apache-2.0
"""`rollback`: back to the refs from before, or the command that is right where it is too late."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import kit, world
from .generator import advance, change, git, tip
from .kit import Case
from .world import BRANCH, land, repin


def refs(case: Case) -> str:
    return case.git("for-each-ref")


def test_a_first_import_leaves_no_ref(tmp_path: Path) -> None:
    case = world.imported(tmp_path)
    main = tip(case.host)
    ran = case.run("rollback")
    assert ran.code == 0, ran.err
    assert refs(case) == f"{main} commit\trefs/heads/main"
    assert case.run("import").code == 0


@pytest.mark.parametrize("values", [{}, {"target__layout": "linear", "keep__originals": False}])
def test_import_and_rollback_change_nothing(tmp_path: Path, values: dict[str, object]) -> None:
    case = kit.case(tmp_path, **{"engine__use": "graft", **values})
    before = kit.state(case.host)
    assert case.run("import").code == 0
    assert case.run("rollback").code == 0
    assert kit.state(case.host) == before


@pytest.mark.parametrize("host", ["plain", "submodule_only"])
@pytest.mark.parametrize("branch", [True, False])
def test_a_sync_goes_back_to_the_import(tmp_path: Path, host: str, branch: bool) -> None:
    """With the branch of the import still there, or deleted after it was landed."""
    case = world.landed(tmp_path, host)
    change(case.host, {"rust/own.rs": b"1\n"}, "own\n")
    git(case.host, "reset", "--quiet", "--hard")
    if not branch:
        git(case.host, "branch", "--quiet", "-D", "import/frontend")
    before = refs(case)
    advance(case.source, 2)
    assert repin(case).run("sync").code == 0
    ran = case.run("rollback")
    assert ran.code == 0, ran.err
    assert refs(case) == before
    assert case.run("sync").code == 0


def test_two_syncs_go_back_one_at_a_time(tmp_path: Path) -> None:
    case = world.landed(tmp_path)
    landed = refs(case)
    advance(case.source, 1)
    assert repin(case).run("sync").code == 0
    first = refs(case)
    advance(case.source, 1)
    assert repin(case).run("sync").code == 0
    assert case.run("rollback").code == 0
    assert refs(case) == first
    assert case.run("rollback").code == 0
    assert refs(case) == landed
    assert "git revert -m 1" in refusal(case)


def test_without_a_log_the_branch_of_a_landed_import_goes(tmp_path: Path) -> None:
    case = world.landed(tmp_path)
    git(case.host, "config", "core.logAllRefUpdates", "false")
    (case.host / ".git/logs" / BRANCH).unlink()
    advance(case.source, 1)
    assert repin(case).run("sync").code == 0
    assert case.run("rollback").code == 0
    assert BRANCH not in refs(case)


def refusal(case: Case) -> str:
    before = kit.state(case.host)
    ran = case.run("rollback")
    assert ran.code == 2, ran.out
    assert kit.state(case.host) == before
    return ran.err


def test_a_landed_import_is_explained(tmp_path: Path) -> None:
    case = world.landed(tmp_path)
    join = tip(case.host)
    said = refusal(case)
    assert f"git revert -m 1 {join[:12]}" in said
    git(case.host, "revert", "-m", "1", "--no-edit", join)
    assert case.git("ls-tree", "main", "rust") == ""


def test_a_branch_that_went_on_is_explained(tmp_path: Path) -> None:
    case = world.imported(tmp_path)
    join = tip(case.host, BRANCH)
    later = change(case.host, {"x": b"1\n"}, "later\n", ref=BRANCH)
    said = refusal(case)
    assert f"not where the import left it: {join[:12]} then, {later[:12]} now" in said


def test_nothing_imported(tmp_path: Path) -> None:
    assert "no import 'frontend'" in refusal(kit.case(tmp_path))


def test_a_checked_out_branch_is_refused(tmp_path: Path) -> None:
    case = world.imported(tmp_path)
    git(case.host, "checkout", "--quiet", "import/frontend")
    assert "is checked out" in refusal(case)


def test_a_landed_sync_is_not_undone_by_an_old_backup(tmp_path: Path) -> None:
    case = world.landed(tmp_path)
    advance(case.source, 1)
    assert repin(case).run("sync").code == 0
    assert "git revert -m 1" in refusal(land(case))


def test_tags_of_the_earlier_import_stay(tmp_path: Path) -> None:
    values: dict[str, object] = {"source__tags": ["v1"]}
    case = world.landed(tmp_path, source="tags", **values)
    tag = case.git("rev-parse", "refs/imports/frontend/tags/v1")
    later = advance(case.source, 1)
    git(case.source, "tag", "v2", later)
    assert repin(case, source__tags=["v1", "v2"]).run("sync").code == 0
    assert case.run("rollback").code == 0
    assert case.git("for-each-ref", "--format=%(objectname)", "refs/imports/frontend/tags") == tag
