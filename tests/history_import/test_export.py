# SPDX-License-Identifier: Apache-2.0
"""`export`: the host's work below the prefix, on top of the source's own signed tip."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import kit, world
from .generator import advance, change, git, tip
from .kit import Case, Ran
from .world import BRANCH, land, repin

EXPORT = "refs/imports/frontend/export"


@pytest.fixture
def landed(tmp_path: Path) -> Case:
    return world.landed(tmp_path)


def exported(case: Case, *options: str) -> Ran:
    ran = case.run("export", *options)
    assert ran.code == 0, ran.err
    return ran


def accept(case: Case) -> str:
    """The source takes the export, as the push that the tool prints would do: a fast-forward."""
    git(case.source, "fetch", "--quiet", str(case.host), f"{EXPORT}:refs/heads/main")
    return tip(case.source)


def test_commits_below_the_prefix_stand_on_the_signed_original(landed: Case) -> None:
    original = tip(landed.source)
    change(landed.host, {"rust/new.rs": b"1\n"}, "rust: new\n\nbody, no newline at the end")
    change(landed.host, {"engine/x.py": b"1\n"}, "engine: not below the prefix\n")
    change(landed.host, {"rust/new.rs": b"2\n", "README.md": b"x\n"}, "both\n")
    ran = exported(landed)
    assert landed.git("rev-list", "--count", f"{original}..{EXPORT}") == "2"
    assert landed.git("rev-parse", f"{EXPORT}~2") == original
    assert landed.git("rev-parse", f"{EXPORT}^{{tree}}") == landed.git("rev-parse", "main:rust")
    assert "1 of them also change files outside" in ran.out
    assert accept(landed) == landed.git("rev-parse", EXPORT)


def test_people_dates_and_message_are_the_hosts(landed: Case) -> None:
    made = change(landed.host, {"rust/new.rs": b"1\n"}, "rust: new\n\nno newline at the end")
    exported(landed)
    raw = landed.git("cat-file", "commit", EXPORT).split("\n", 2)[2]
    assert raw == landed.git("cat-file", "commit", made).split("\n", 2)[2]


def test_nothing_to_export(landed: Case) -> None:
    change(landed.host, {"engine/x.py": b"1\n"}, "engine only\n")
    before = kit.state(landed.host)
    assert exported(landed).out.startswith("nothing to export")
    assert kit.state(landed.host) == before


def test_a_second_run_is_as_it_was(landed: Case) -> None:
    change(landed.host, {"rust/new.rs": b"1\n"}, "new\n")
    exported(landed)
    before = kit.state(landed.host)
    assert "(as it was)" in exported(landed).out
    assert kit.state(landed.host) == before


def test_merges_are_kept_and_sides_that_touch_nothing_are_not(landed: Case) -> None:
    base = tip(landed.host)
    git(landed.host, "branch", "topic")
    git(landed.host, "branch", "engine", f"{BRANCH}^1")  # from before the import
    change(landed.host, {"rust/a.rs": b"1\n"}, "a\n", ref="refs/heads/topic")
    change(landed.host, {"engine/e.py": b"1\n"}, "e\n", ref="refs/heads/engine")
    change(landed.host, {"rust/b.rs": b"1\n"}, "b\n")
    change(landed.host, {"rust/a.rs": b"1\n"}, "merge a\n", parents=(tip(landed.host, "topic"),))
    change(landed.host, {"engine/e.py": b"1\n"}, "merge\n", parents=(tip(landed.host, "engine"),))
    ran = exported(landed, "--json")
    result = ran.data["result"]
    assert (result["commits"], result["merges"], result["onto"]) == (3, 1, tip(landed.source))
    assert landed.git("rev-list", "--count", "--merges", f"{tip(landed.source)}..{EXPORT}") == "1"
    assert landed.git("rev-list", "--count", f"{base}..main") == "5"


def test_a_sync_after_an_accepted_export_exports_nothing(landed: Case) -> None:
    """The source has the host's commits as they were made here, so they are not made again."""
    change(landed.host, {"rust/new.rs": b"1\n"}, "new\n")
    git(landed.host, "reset", "--quiet", "--hard")
    exported(landed)
    accept(landed)
    advance(landed.source, 1)
    assert repin(landed).run("sync").code == 0
    land(landed)
    assert exported(landed).out.startswith("nothing to export")


def test_after_a_sync_only_the_hosts_own_work_goes_out(landed: Case) -> None:
    change(landed.host, {"rust/new.rs": b"1\n"}, "new\n")
    git(landed.host, "reset", "--quiet", "--hard")
    upstream = advance(landed.source, 2)
    assert repin(landed).run("sync").code == 0
    land(landed)
    change(landed.host, {"rust/later.rs": b"1\n"}, "later\n")
    exported(landed)
    assert landed.git("rev-list", "--count", f"{upstream}..{EXPORT}") == "3"
    assert landed.git("merge-base", upstream, EXPORT) == upstream
    assert landed.git("rev-parse", f"{EXPORT}^{{tree}}") == landed.git("rev-parse", "main:rust")
    assert accept(landed)


def test_two_rounds_between_host_and_source(landed: Case) -> None:
    """Both sides work, sync, export, the source takes it, both work again."""
    for n in range(2):
        change(landed.host, {f"rust/host{n}.rs": b"1\n", f"host{n}": b"1\n"}, f"host {n}\n")
        git(landed.host, "reset", "--quiet", "--hard")
        advance(landed.source, 1)
        synced = repin(landed).run("sync")
        assert synced.code == 0, synced.err
        land(landed)
        exported(landed)
        assert "History-Import" not in landed.git("log", "--format=%B", EXPORT)
        accept(landed)
    assert repin(landed).run("sync").code == 0
    land(landed)
    assert exported(landed).out.startswith("nothing to export")
    assert landed.git("rev-parse", "main:rust") == git(landed.source, "rev-parse", "main^{tree}")
    assert landed.run("verify", "--ref", "main").code == 0


def test_a_source_that_went_on_is_refused(landed: Case) -> None:
    change(landed.host, {"rust/new.rs": b"1\n"}, "new\n")
    later = advance(landed.source, 1)
    before = kit.state(landed.host)
    ran = landed.run("export")
    assert ran.code == 2
    assert f"not a fast-forward: refs/heads/main of ../source is at {later}" in ran.err
    assert kit.state(landed.host) == before
    assert exported(landed, "--offline")


def test_a_declared_deletion_is_not_exported(tmp_path: Path) -> None:
    detached = [".github/**"]
    case = world.landed(tmp_path)
    case = repin(case, target__detached=detached)
    change(case.host, {"rust/.github/workflows/ci.yml": None, "rust/a.rs": b"1\n"}, "mixed\n")
    exported(case)
    names = case.git("ls-tree", "-r", "--name-only", EXPORT).splitlines()
    assert {".github/workflows/ci.yml", "a.rs"} <= set(names)
    assert case.git("rev-list", "--count", f"{tip(case.source)}..{EXPORT}") == "1"


def test_an_undeclared_deletion_is_exported(landed: Case) -> None:
    change(landed.host, {"rust/.github/workflows/ci.yml": None}, "no ci\n")
    exported(landed)
    assert ".github" not in landed.git("ls-tree", "-r", "--name-only", EXPORT)


def test_linear_and_without_originals(tmp_path: Path) -> None:
    """Objects come from the source where the host did not keep them."""
    values = {"target__layout": "linear", "keep__originals": False}
    case = world.landed(tmp_path, **values)
    git(case.host, "gc", "--quiet", "--prune=now")
    change(case.host, {"rust/a.rs": b"1\n", "engine/y.py": b"1\n"}, "both\n")
    exported(case)
    assert case.git("rev-parse", f"{EXPORT}~1") == tip(case.source)
    assert case.git("rev-parse", f"{EXPORT}^{{tree}}") == case.git("rev-parse", "main:rust")


def test_work_inside_the_imported_history_is_refused(landed: Case) -> None:
    git(landed.host, "branch", "inside", "refs/imports/frontend/tip~3")
    change(landed.host, {"rust/odd.rs": b"1\n"}, "odd\n", ref="refs/heads/inside")
    odd = tip(landed.host, "inside")
    change(landed.host, {"rust/odd.rs": b"1\n"}, "merge odd\n", parents=(odd,))
    ran = landed.run("export")
    assert ran.code == 2
    assert f"host commit {odd} was made on" in ran.err


def test_a_removed_prefix_is_refused(landed: Case) -> None:
    files = git(landed.host, "ls-tree", "-r", "--name-only", "main", "rust/").splitlines()
    change(landed.host, dict.fromkeys(files), "rust: gone\n")
    ran = landed.run("export")
    assert (ran.code, "the host removed it" in ran.err) == (2, True)


def test_an_unknown_ref_is_refused(landed: Case) -> None:
    assert "the host has no 'nowhere'" in landed.run("export", "--ref", "nowhere").err
    assert "no import 'frontend'" in landed.run("export", "--ref", f"{BRANCH}^1").err
