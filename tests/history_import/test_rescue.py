# SPDX-License-Identifier: Apache-2.0
"""`rescue`: after a squash every line is blamed as in the source again, and main is untouched."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import kit, world
from .generator import advance, change, git, tip
from .generator.objects import run_git
from .kit import Case
from .world import BRANCH, TIP


def squash(case: Case) -> str:
    """As a forge's button does it: the branch's tree, one parent."""
    tree = case.git("rev-parse", f"{BRANCH}^{{tree}}")
    made = run_git(case.host, "commit-tree", tree, "-p", "main", "-m", "Import (#1)").decode()
    git(case.host, "update-ref", "refs/heads/main", made.strip())
    git(case.host, "update-ref", "-d", BRANCH)
    git(case.host, "reset", "--quiet", "--hard")
    return made.strip()


@pytest.fixture
def squashed(tmp_path: Path) -> Case:
    case = world.imported(tmp_path)
    squash(case)
    return case


def blamed(case: Case, path: str, commit: str = "main") -> list[str]:
    lines = case.git("blame", "-l", "-s", "--root", commit, "--", f"rust/{path}").splitlines()
    return [line[:40] for line in lines]


def test_every_line_has_its_commit_again(squashed: Case) -> None:
    made = tip(squashed.host)
    assert set(blamed(squashed, "src/lib.rs")) == {made}
    ran = squashed.run("rescue")
    assert ran.code == 0, ran.err
    assert tip(squashed.host) == made
    assert blamed(squashed, "src/lib.rs") == blamed(squashed, "src/lib.rs", TIP)
    assert made not in blamed(squashed, "src/lib.rs")
    assert int(squashed.git("log", "--oneline", "main", "--", "rust").count("\n")) > 5
    assert f"refs/replace/{made}  new" in ran.out


def test_only_the_replace_ref_is_new(squashed: Case) -> None:
    before = set(squashed.git("for-each-ref").splitlines())
    made = tip(squashed.host)
    assert squashed.run("rescue").code == 0
    (new,) = set(squashed.git("for-each-ref").splitlines()) - before
    assert new.endswith(f"refs/replace/{made}")
    state = kit.state(squashed.host)
    assert "as it was" in squashed.run("rescue").out
    assert kit.state(squashed.host) == state


def test_work_after_the_squash_keeps_its_author(squashed: Case) -> None:
    text = squashed.git("show", "main:rust/src/lib.rs")
    later = change(squashed.host, {"rust/src/lib.rs": (text + "\nmore\n").encode()}, "more\n")
    assert squashed.run("rescue").code == 0
    assert blamed(squashed, "src/lib.rs")[-1] == later
    assert blamed(squashed, "src/lib.rs")[:-1] == blamed(squashed, "src/lib.rs", TIP)


def test_without_the_refs_of_the_import(squashed: Case) -> None:
    """A clone, or a project that only has the squash: the history is made again."""
    for ref in squashed.git("for-each-ref", "--format=%(refname)", "refs/imports").split():
        git(squashed.host, "update-ref", "-d", ref)
    git(squashed.host, "gc", "--quiet", "--prune=now")
    assert squashed.run("rescue").code == 0
    assert tip(squashed.host) not in blamed(squashed, "src/lib.rs")


def test_a_squash_with_edits_must_be_named(squashed: Case) -> None:
    made = tip(squashed.host)
    git(squashed.host, "update-ref", "refs/heads/main", "main^")
    files: dict[str, bytes | None] = {"rust/extra.rs": b"1\n"}
    git(squashed.host, "update-ref", "refs/heads/other", made)
    change(squashed.host, files, "extra\n", ref="refs/heads/other")
    tree = squashed.git("rev-parse", "other^{tree}")
    edited = run_git(squashed.host, "commit-tree", tree, "-p", "main", "-m", "squash").decode()
    git(squashed.host, "update-ref", "refs/heads/main", edited.strip())
    ran = squashed.run("rescue")
    assert (ran.code, "name it with --commit" in ran.err) == (2, True)
    named = squashed.run("rescue", "--commit", edited[:12])
    assert named.code == 0, named.err
    assert blamed(squashed, "src/lib.rs") == blamed(squashed, "src/lib.rs", TIP)
    assert set(blamed(squashed, "extra.rs")) == {edited.strip()}


def test_a_squashed_sync(tmp_path: Path) -> None:
    """The import landed as a merge, only its sync went through the wrong button."""
    case = world.landed(tmp_path)
    advance(case.source, 2)
    assert world.repin(case).run("sync").code == 0
    made = squash(case)
    assert blamed(case, "later/all.txt") == [made]
    ran = case.run("rescue")
    assert ran.code == 0, ran.err
    for path in ("later/all.txt", "src/lib.rs"):
        assert blamed(case, path) == blamed(case, path, TIP)


def refusal(case: Case, *options: str) -> str:
    before = kit.state(case.host)
    ran = case.run("rescue", *options)
    assert ran.code == 2, ran.out
    assert kit.state(case.host) == before
    return ran.err


def test_a_landed_import_needs_no_rescue(tmp_path: Path) -> None:
    assert "there is nothing to rescue" in refusal(world.landed(tmp_path))


def test_a_host_without_the_files_is_refused(tmp_path: Path) -> None:
    assert "no commit of main has exactly the imported rust/" in refusal(world.imported(tmp_path))


def test_a_merge_is_no_squash(squashed: Case) -> None:
    made = tip(squashed.host)
    merge = change(squashed.host, {"x": b"1\n"}, "merge\n", parents=(f"{made}^",))
    assert "2 parents, so it is no squash" in refusal(squashed, "--commit", merge)


def test_an_unknown_commit_is_refused(squashed: Case) -> None:
    assert "(--commit) is no commit of the base" in refusal(squashed, "--commit", "f" * 12)


def test_lines_that_are_not_the_imports_fail_the_proof(squashed: Case) -> None:
    """Named wrongly: the commit does not have the imported files."""
    before = kit.state(squashed.host)
    ran = squashed.run("rescue", "--commit", tip(squashed.host, "main^"))
    assert ran.code == 1
    assert "are not blamed as in the import" in ran.err
    assert kit.state(squashed.host) == before


def test_a_rescued_import_is_proved_through_the_replace_ref(squashed: Case) -> None:
    made = tip(squashed.host)
    assert squashed.run("verify", "--ref", "main").code == 1
    assert squashed.run("rescue").code == 0
    ran = squashed.run("verify", "--ref", "main")
    assert ran.code == 0, ran.out
    assert f"landed by a squash, rescued by refs/replace/{made}" in ran.out
    change(squashed.host, {"README.md": b"more\n"}, "later\n")
    assert squashed.run("verify", "--ref", "main").code == 0


def test_a_rescued_sync_is_proved(tmp_path: Path) -> None:
    case = world.landed(tmp_path)
    advance(case.source, 2)
    assert world.repin(case).run("sync").code == 0
    squash(case)
    assert case.run("rescue").code == 0
    ran = case.run("verify", "--ref", "main")
    assert ran.code == 0, ran.out


def test_a_rescue_is_not_in_the_way_of_another_import(squashed: Case) -> None:
    assert squashed.run("rescue").code == 0
    other = world.repin(squashed, name="second", target__prefix="second",
                        target__branch="import/second")  # fmt: skip
    ran = other.run("import")
    assert ran.code == 0, ran.err


def test_a_rescue_that_changes_more_proves_nothing(squashed: Case) -> None:
    """The same parents as rescue's, but another message."""
    made = tip(squashed.host)
    assert squashed.run("rescue").code == 0
    words = ["commit-tree", f"{made}^{{tree}}", "-p", f"{made}^", "-p", TIP, "-m", "other"]
    other = run_git(squashed.host, *words).decode().strip()
    git(squashed.host, "update-ref", f"refs/replace/{made}", other)
    assert squashed.run("verify", "--ref", "main").code == 1


def rebased(folder: Path) -> Case:
    """As a forge's other button does it: main gets a copy of every commit."""
    case = world.imported(folder)
    git(case.host, "checkout", "--quiet", "import/frontend")
    git(case.host, "rebase", "--quiet", "main")
    git(case.host, "checkout", "--quiet", "main")
    git(case.host, "merge", "--quiet", "--ff-only", "import/frontend")
    git(case.host, "branch", "--quiet", "-D", "import/frontend")
    return case


def test_a_rebase_is_called_one(tmp_path: Path) -> None:
    case = rebased(tmp_path)
    ran = case.run("verify", "--ref", "main")
    assert (ran.code, "rebased: " in ran.out, "no rescue mends" in ran.out) == (1, True, True)
    assert "it was rebased, which no replace ref can mend" in refusal(case)


def test_a_rebase_is_mended_as_the_guide_says(tmp_path: Path) -> None:
    case = rebased(tmp_path)
    git(case.host, "reset", "--quiet", "--hard", "refs/backup/history-import/frontend/main")
    assert case.run("import").code == 0
    world.land(case)
    ran = case.run("verify", "--ref", "main")
    assert ran.code == 0, ran.out
