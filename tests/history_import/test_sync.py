# SPDX-License-Identifier: Apache-2.0
"""`sync`: recomputed, merged as git does, refused where the earlier import would not come again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from . import kit, world
from .generator import advance, change, force_back, git, tip
from .kit import Case
from .world import BRANCH, land, repin


@pytest.fixture
def landed(tmp_path: Path) -> Case:
    """Imported and landed on main; the source is the test's own, so that it can go on."""
    return world.landed(tmp_path)


def trailers(case: Case, commit: str = BRANCH) -> str:
    return case.git("log", "-1", "--format=%(trailers:only,unfold)", commit)


def test_a_sync_brings_the_later_commits_in_one_merge(landed: Case) -> None:
    before = tip(landed.host)
    advance(landed.source, 3)
    ran = repin(landed).run("sync")
    assert ran.code == 0, ran.err
    assert landed.git("rev-list", "--count", "--first-parent", f"{before}..{BRANCH}") == "1"
    assert landed.git("rev-list", "--count", f"{before}..{BRANCH}") == "4"
    whole = git(landed.source, "rev-parse", "main^{tree}")
    assert landed.git("rev-parse", f"{BRANCH}:rust") == whole
    assert "Kind: sync" in trailers(landed)
    assert tip(landed.host) == before


def test_both_engines_agree_on_a_sync(tmp_path: Path) -> None:
    case = world.landed(tmp_path, engine__use="both")
    advance(case.source, 1)
    assert repin(case, engine__use="both").run("sync").code == 0
    assert "filter-repo 2.47.0, graft 1" in trailers(case)


def test_the_same_pin_is_nothing_to_do(landed: Case) -> None:
    before = kit.state(landed.host)
    ran = landed.run("sync")
    assert (ran.code, ran.out.split(":")[0]) == (0, "nothing to do")
    assert kit.state(landed.host) == before


def test_a_second_sync_stands_on_the_first(landed: Case) -> None:
    advance(landed.source, 1)
    assert repin(landed).run("sync").code == 0
    first = tip(landed.host, BRANCH)
    advance(landed.source, 1)
    assert repin(landed).run("sync").code == 0
    assert landed.git("rev-parse", f"{BRANCH}^1") == first
    assert landed.git("rev-parse", "refs/backup/history-import/frontend/main") == first


def main_goes_on(case: Case) -> None:
    change(case.host, {"main-note": b"1\n"}, "on main\n")
    git(case.host, "reset", "--hard", "--quiet")


def update_branch(case: Case) -> None:
    """The forge's button: main is merged into the branch."""
    git(case.host, "switch", "--quiet", "import/frontend")
    git(case.host, "merge", "--quiet", "--no-edit", "main")
    git(case.host, "switch", "--quiet", "main")


@pytest.mark.parametrize("updated", [False, True])
def test_syncs_before_landing_once_main_has_moved(tmp_path: Path, updated: bool) -> None:
    """They stand on the branch, whose line main's later commits are not on."""
    case = world.imported(tmp_path)
    for _ in range(2):
        main_goes_on(case)
        if updated:
            update_branch(case)
        before = tip(case.host, BRANCH)
        advance(case.source, 1)
        ran = repin(case).run("sync")
        assert ran.code == 0, ran.err
        assert case.git("rev-parse", f"{BRANCH}^1") == before
    git(case.host, "merge", "--quiet", "--no-edit", BRANCH)
    proved = case.run("verify", "--ref", "main")
    assert proved.code == 0, proved.out + proved.err


def test_host_edits_and_renames_are_kept(landed: Case) -> None:
    """The host edits a file that the source then moves, and renames one that the source edits."""
    text = git(landed.source, "show", "main:src/lib.rs")
    change(landed.host, {"rust/src/lib.rs": ("host line\n" + text + "\n").encode()}, "edit\n")
    change(landed.host, {}, "rename\n", moves={"rust/src/chat/part1.rs": "rust/src/chat/uno.rs"})
    git(landed.host, "reset", "--hard", "--quiet")
    part = git(landed.source, "show", "main:src/chat/part1.rs") + "\nsource line\n"
    change(landed.source, {}, "move\n", moves={"src/lib.rs": "crates/lib.rs"})
    change(landed.source, {"src/chat/part1.rs": part.encode()}, "edit part\n")
    ran = repin(landed).run("sync")
    assert ran.code == 0, ran.err + ran.out
    assert landed.git("show", f"{BRANCH}:rust/crates/lib.rs").startswith("host line\n")
    assert landed.git("show", f"{BRANCH}:rust/src/chat/uno.rs").endswith("source line")
    author = landed.git("blame", "-L1,1", "-p", BRANCH, "--", "rust/crates/lib.rs")
    assert "author Ben Beispiel" in author


def delete_github(case: Case) -> None:
    change(case.host, {"rust/.github/workflows/ci.yml": None}, "no workflows here\n")
    git(case.host, "reset", "--hard", "--quiet")
    change(case.source, {".github/workflows/ci.yml": b"on: [push]\n"}, "ci: list\n")


def test_an_undeclared_deletion_is_a_conflict(landed: Case) -> None:
    delete_github(landed)
    before = kit.state(landed.host)
    ran = repin(landed).run("sync")
    assert ran.code == 3
    assert "rust/.github/workflows/ci.yml   (modify/delete)" in ran.out
    assert kit.state(landed.host) == before


def test_a_declared_deletion_stays_deleted(landed: Case) -> None:
    """Also for a file that the source adds below it later."""
    delete_github(landed)
    change(landed.source, {".github/new.yml": b"1\n", "src/new.rs": b"2\n"}, "new\n")
    ran = repin(landed, target__detached=[".github/**"]).run("sync")
    assert ran.code == 0, ran.err + ran.out
    assert "2 files of the source stay deleted" in ran.out
    assert landed.git("ls-tree", "-r", "--name-only", BRANCH, "rust/.github") == ""
    assert landed.git("show", f"{BRANCH}:rust/src/new.rs") == "2"


def test_a_detached_file_that_the_host_still_has_is_merged(landed: Case) -> None:
    change(landed.source, {".github/workflows/ci.yml": b"on: [push]\n"}, "ci: list\n")
    assert repin(landed, target__detached=[".github/**"]).run("sync").code == 0
    assert landed.git("show", f"{BRANCH}:rust/.github/workflows/ci.yml") == "on: [push]"


def conflict(case: Case) -> Case:
    change(case.host, {"rust/README.md": b"# The host's\n"}, "host\n")
    git(case.host, "reset", "--hard", "--quiet")
    change(case.source, {"README.md": b"# The source's\n"}, "source\n")
    return repin(case)


def test_a_conflict_is_listed_and_a_resolution_taken(landed: Case) -> None:
    conflict(landed)
    before = kit.state(landed.host)
    ran = landed.run("sync", "--json")
    assert ran.code == 3
    assert ran.data["result"]["conflicts"] == {"rust/README.md": "contents"}
    assert kit.state(landed.host) == before
    switch, fetch = ran.data["result"]["commands"][:2]
    for command in (switch, fetch):
        git(landed.host, *command.split()[1:])
    with pytest.raises(RuntimeError):
        git(landed.host, "merge", "--no-edit", "FETCH_HEAD")
    (landed.host / "rust/README.md").write_bytes(b"# Both\n")
    git(landed.host, "commit", "--quiet", "-am", "resolved")
    done = landed.run("sync", "--resolution", "resolve-sync")
    assert done.code == 0, done.err
    assert landed.git("show", f"{BRANCH}:rust/README.md") == "# Both"
    assert "Resolution: hand-made" in trailers(landed)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"rust/README.md": b"<<<<<<< ours\n"}, "has conflict markers"),
        ({"rust/README.md": b"# Both\n", "README.md": b"x\n"}, "changes 1 files outside rust/"),
    ],
)
def test_a_bad_resolution_is_refused(landed: Case, files: dict[str, bytes], reason: str) -> None:
    conflict(landed)
    git(landed.host, "branch", "mine")
    change(landed.host, files, "resolved\n", ref="refs/heads/mine")
    before = kit.state(landed.host)
    ran = landed.run("sync", "--resolution", "mine")
    assert ran.code == 2
    assert reason in ran.err
    assert kit.state(landed.host) == before


def test_a_resolution_of_nothing_is_refused(landed: Case) -> None:
    advance(landed.source, 1)
    assert "no conflict to resolve" in repin(landed).run("sync", "--resolution", "main").err


def refusal(case: Case) -> str:
    before = kit.state(case.host)
    ran = case.run("sync")
    assert ran.code == 2, ran.out
    assert kit.state(case.host) == before
    return ran.err


@pytest.mark.parametrize("originals", [True, False])
def test_a_force_pushed_source_names_the_first_lost_commit(tmp_path: Path, originals: bool) -> None:
    case = world.landed(tmp_path, keep__originals=originals)
    case.git("gc", "--quiet", "--prune=now")
    lost = tip(case.source, "main~2")
    image = case.git("rev-parse", "refs/imports/frontend/tip~2")
    force_back(case.source, 3, instead=2)
    said = refusal(repin(case, keep__originals=originals))
    assert "the source was force-pushed" in said
    assert (lost if originals else image) in said


def test_an_older_pin_is_refused(landed: Case) -> None:
    said = refusal(repin(landed, source__pin=tip(landed.source, "main~1")))
    assert "older than" in said


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"messages__qualify": "other/name"}, "a rule in [messages] changed"),
        ({"target__prefix": "rust2"}, "target.prefix or the engine changed"),
    ],
)
def test_a_changed_rule_names_the_first_commit(
    tmp_path: Path, changed: dict[str, str], reason: str
) -> None:
    case = world.landed(tmp_path)
    numbered = change(case.source, {"a.txt": b"1\n"}, "with a number (#7)\n")
    assert repin(case).run("sync").code == 0
    land(case)
    advance(case.source, 1)
    said = refusal(repin(case, **changed))
    first = numbered if "messages__qualify" in changed else tip(case.source, "main~13")
    assert f"the first commit that differs is {first}" in said
    assert reason in said


def test_a_changed_engine_names_the_header(tmp_path: Path) -> None:
    """git-filter-repo loses `change-id`, so the graft cannot go on with an import made by it."""
    case = world.landed(tmp_path, source="change_id", engine__use="filter-repo")
    odd = tip(case.source, "main~3")
    advance(case.source, 1)
    said = refusal(repin(case))
    assert f"the first commit that differs is {odd}" in said
    assert "change-id" in said
    assert "the engine changed" in said


def test_nothing_imported_yet(tmp_path: Path) -> None:
    assert "no import 'frontend'" in refusal(kit.case(tmp_path))


def revert_the_import(case: Case) -> None:
    git(case.host, "revert", "--no-edit", "-m", "1", "main")


def move_the_folder(case: Case) -> None:
    git(case.host, "mv", "rust", "rs")
    git(case.host, "commit", "--quiet", "-m", "move")


def put_a_file_there(case: Case) -> None:
    git(case.host, "rm", "--quiet", "-r", "rust")
    (case.host / "rust").write_bytes(b"a note\n")
    git(case.host, "add", "rust")
    git(case.host, "commit", "--quiet", "-m", "a file instead")


@pytest.mark.parametrize("how", [revert_the_import, move_the_folder, put_a_file_there])
def test_a_folder_that_the_host_took_away_is_refused(
    landed: Case, how: Callable[[Case], None]
) -> None:
    how(landed)
    gone = tip(landed.host)
    change(landed.host, {"note": b"1\n"}, "later\n")
    git(landed.host, "reset", "--hard", "--quiet")
    advance(landed.source, 1)
    said = refusal(repin(landed))
    assert "main has no folder rust/ any more" in said
    assert gone[:12] in said


def test_linear_is_refused_by_name(tmp_path: Path) -> None:
    case = world.landed(tmp_path, target__layout="linear")
    advance(case.source, 1)
    assert "linear layout is not implemented" in refusal(repin(case, target__layout="linear"))


def test_a_branch_with_work_of_its_own_is_not_moved(landed: Case) -> None:
    change(landed.host, {"note": b"1\n"}, "on the branch\n", ref=BRANCH)
    change(landed.host, {"main-note": b"1\n"}, "on main\n")
    git(landed.host, "reset", "--hard", "--quiet")
    advance(landed.source, 1)
    assert "land or delete that branch first" in refusal(repin(landed))


def test_the_source_is_only_read(landed: Case) -> None:
    advance(landed.source, 1)
    before = kit.state(landed.source)
    assert repin(landed).run("sync").code == 0
    assert kit.state(landed.source) == before


def test_ids_for_blame_are_offered_where_the_host_has_a_list(tmp_path: Path) -> None:
    """The join added the list; it is the host's since then, so a sync only says what is new."""
    case = world.landed(tmp_path, source="ignore_revs")
    own = case.git("show", f"{BRANCH}:.git-blame-ignore-revs")
    reformatting = change(case.source, {"code.rs": b"other\n"}, "style: again\n")
    listed = git(case.source, "show", "main:.git-blame-ignore-revs") + f"\n{reformatting}\n"
    change(case.source, {".git-blame-ignore-revs": listed.encode()}, "chore: list it\n")
    ran = repin(case).run("sync", "--json")
    assert ran.code == 0, ran.err
    assert case.git("show", f"{BRANCH}:.git-blame-ignore-revs") == own
    offered = Path(ran.data["result"]["ignored_revisions"]).read_text()
    assert offered.splitlines()[-1] == case.git("rev-parse", "refs/imports/frontend/tip^")


def stored(case: Case) -> int:
    """Objects on disk, those that are there twice counted twice."""
    said = dict(line.split(": ") for line in case.git("count-objects", "-v").splitlines())
    return int(said["count"]) + int(said["in-pack"])


def test_the_host_gets_only_what_is_new(landed: Case) -> None:
    """Three commits twice, their trees and files, the prefix around each, the join and the map."""
    before = stored(landed)
    advance(landed.source, 3)
    assert repin(landed).run("sync").code == 0
    assert stored(landed) - before == 3 * 2 + 3 * 2 + 3 * 2 + 3 + 3
