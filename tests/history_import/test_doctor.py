# SPDX-License-Identifier: Apache-2.0
"""`doctor`: every remnant of a former submodule is found; only what loses no work is removed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from . import kit, world
from .generator import git
from .kit import Ran
from .world import BRANCH, TIP

ALLOW = ("-c", "protocol.file.allow=always")
PERSON = ("-c", "user.name=D", "-c", "user.email=d@example.org")


@dataclass(frozen=True)
class Clone:
    """A developer's clone with the submodule initialised; upstream has landed the switch."""

    path: Path
    inside: Path  # the submodule's working tree

    def doctor(self, *options: str) -> Ran:
        return kit.run("doctor", "--host", str(self.path), *options)

    def findings(self, *options: str) -> list[tuple[str, str]]:
        ran = self.doctor("--json", *options)
        return [(one["kind"], one["where"]) for one in self.found(ran)]

    @staticmethod
    def found(ran: Ran) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = ran.data["result"]["findings"]
        return found

    def git(self, *words: str) -> str:
        return git(self.path, *ALLOW, *words)

    def inside_git(self, *words: str) -> str:
        return git(self.inside, *PERSON, *words)


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    case = world.imported(tmp_path, host="submodule_only")
    path = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--branch", "main", str(case.host), str(path))
    made = Clone(path, path / "rust")
    made.git("config", "submodule.frontend.url", str(case.source))
    made.git("submodule", "update", "--init", "--quiet")
    git(case.host, "update-ref", "refs/heads/main", BRANCH)
    made.git("fetch", "--quiet")
    return made


def pull(clone: Clone) -> None:
    clone.git("merge", "--quiet", "--ff-only", "origin/main")


def test_before_the_pull_the_submodule_is_in_the_way(clone: Clone) -> None:
    before = kit.state(clone.path)
    ran = clone.doctor()
    assert ran.code == 0, ran.err
    assert "git submodule deinit -f rust, then pull" in ran.out
    assert kit.state(clone.path) == before
    with pytest.raises(RuntimeError, match="untracked working tree files would be overwritten"):
        pull(clone)


def test_fix_then_pull_then_nothing_is_left(clone: Clone) -> None:
    assert clone.doctor("--fix").code == 0
    pull(clone)
    assert clone.git("status", "--porcelain") == ""
    assert ("modules", "modules/frontend") in clone.findings()
    assert clone.doctor("--fix").code == 0
    assert clone.findings() == []
    assert not (clone.path / ".git/modules/frontend").exists()


def test_after_a_hard_reset_the_pointer_is_left(clone: Clone) -> None:
    clone.git("reset", "--quiet", "--hard", "origin/main")
    kinds = [kind for kind, _where in clone.findings()]
    assert kinds[:2] == ["pointer", "modules"]
    assert "config" in kinds
    assert clone.doctor("--fix").code == 0
    assert clone.findings() == []
    clone.git("reset", "--quiet", "--hard")
    # A file of the old commit that the new one lacks: nobody's work, but not doctor's to judge.
    assert clone.git("status", "--porcelain") == "?? rust/src/chat/part0.rs"


def uncommitted(clone: Clone) -> None:
    (clone.inside / "README.md").write_text("mine\n")


def ignored(clone: Clone) -> None:
    exclude = clone.path / ".git/modules/frontend/info/exclude"
    exclude.write_text(".env\n")
    (clone.inside / ".env").write_text("SECRET=1\n")


def unknowable(clone: Clone) -> None:
    (clone.path / ".git/modules/frontend/HEAD").write_text("ref: refs/heads/nothing\n")


def unseen(clone: Clone) -> None:
    clone.inside_git("update-index", "--skip-worktree", "README.md")
    uncommitted(clone)


def untracked(clone: Clone) -> None:
    clone.inside_git("config", "status.showUntrackedFiles", "no")
    (clone.inside / "note.txt").write_text("mine\n")


def unpushed(clone: Clone) -> None:
    clone.inside_git("commit", "--quiet", "--allow-empty", "-m", "mine")


def branch_unpushed(clone: Clone) -> None:
    unpushed(clone)
    clone.inside_git("branch", "mine")
    clone.inside_git("checkout", "--quiet", "origin/main")


def stashed(clone: Clone) -> None:
    uncommitted(clone)
    clone.inside_git("stash", "--quiet")


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        (uncommitted, "1 uncommitted changes, such as README.md"),
        (untracked, "1 uncommitted changes, such as note.txt"),
        (unpushed, "1 commits on no remote"),
        (branch_unpushed, "1 commits on no remote"),
        (stashed, "a stash"),
        (ignored, "1 ignored files or folders, such as .env"),
        (unseen, "1 files that status does not compare, such as README.md"),
        (unknowable, "its commits cannot be listed"),
    ],
)
def test_work_inside_the_submodule_is_never_deleted(clone: Clone, work: Any, reason: str) -> None:
    work(clone)
    before = kit.state(clone.inside)
    ran = clone.doctor("--fix")
    assert (ran.code, "left alone" in ran.out) == (2, True)
    assert reason in ran.out
    assert kit.state(clone.inside) == before


@pytest.mark.parametrize("work", [unpushed, branch_unpushed, stashed])
def test_a_modules_folder_with_work_is_kept(clone: Clone, work: Any) -> None:
    work(clone)
    clone.git("submodule", "deinit", "-f", "--quiet", "rust")
    pull(clone)
    ran = clone.doctor("--fix")
    assert (ran.code, "left alone" in ran.out) == (2, True)
    assert (clone.path / ".git/modules/frontend/HEAD").exists()


def snapshot(clone: Clone) -> tuple[dict[str, Any], dict[str, Any], str]:
    staged = clone.inside_git("diff", "--cached")
    return kit.state(clone.path), kit.state(clone.inside), staged


def test_staged_work_keeps_the_modules_folder(clone: Clone) -> None:
    uncommitted(clone)
    clone.inside_git("add", "README.md")
    clone.git("reset", "--quiet", "--hard", "origin/main")
    ran = clone.doctor("--fix")
    assert (ran.code, "1 staged changes, such as README.md" in ran.out) == (2, True)
    assert (clone.path / ".git/modules/frontend/HEAD").exists()


def test_another_working_tree_keeps_its_submodule(clone: Clone, tmp_path: Path) -> None:
    uncommitted(clone)
    clone.inside_git("add", "README.md")
    linked = tmp_path / "linked"
    clone.git("worktree", "add", "--quiet", "--detach", str(linked), "origin/main")
    before = snapshot(clone)
    ran = kit.run("doctor", "--fix", "--host", str(linked))
    assert (ran.code, f"working tree {clone.path} has it" in ran.out) == (2, True)
    assert snapshot(clone) == before


def test_a_linked_working_tree_keeps_work_in_its_own_submodule(
    clone: Clone, tmp_path: Path
) -> None:
    linked = tmp_path / "linked"
    clone.git("worktree", "add", "--quiet", "-b", "other", str(linked), "main")
    git(linked, *ALLOW, "submodule", "update", "--init", "--quiet")
    note = linked / "rust/note.txt"
    note.write_text("mine\n")
    ran = kit.run("doctor", "--fix", "--host", str(linked), "--ref", "origin/main")
    assert (ran.code, "such as note.txt" in ran.out) == (2, True)
    assert note.exists()


@pytest.mark.parametrize("branch", [True, False])
def test_a_commit_without_the_submodule_is_not_the_end_of_it(clone: Clone, branch: bool) -> None:
    """Gone from what is checked out, and still on a branch or in what the upstream has."""
    commit = [*PERSON, "commit-tree", "-m", "before", clone.git("mktree")]
    clone.git("checkout", "--quiet", "-f", "--detach", clone.git(*commit))
    options = [] if branch else ["--ref", clone.git("rev-parse", "main")]
    if not branch:
        clone.git("branch", "-D", "main")
    ran = clone.doctor("--fix", *options)
    said = "a submodule on branch main" if branch else "a submodule in what will be pulled"
    assert (ran.code, said in ran.out) == (2, True)
    assert (clone.path / ".git/modules/frontend/HEAD").exists()
    assert clone.git("config", "submodule.frontend.url")


def test_a_submodule_just_added_is_no_remnant(clone: Clone, tmp_path: Path) -> None:
    url = clone.git("config", "submodule.frontend.url")
    clone.git("submodule", "--quiet", "add", url, "lib")
    assert "modules/lib" not in [where for _kind, where in clone.findings("--ref", "main")]


def test_a_submodule_that_stays_is_no_finding(tmp_path: Path, clone: Clone) -> None:
    """The switch is not in sight: what will be pulled still has the submodule."""
    assert clone.findings("--ref", "main") == []


def test_a_list_of_revisions_that_blame_does_not_use(tmp_path: Path) -> None:
    case = world.landed(tmp_path, source="ignore_revs")
    where = case.host
    ran = kit.run("doctor", "--host", str(where), "--json")
    assert [one["kind"] for one in ran.data["result"]["findings"]] == ["blame"]
    assert kit.run("doctor", "--host", str(where), "--fix").code == 0
    assert git(where, "config", "blame.ignoreRevsFile") == ".git-blame-ignore-revs"
    assert "nothing is left" in kit.run("doctor", "--host", str(where)).out


def test_a_stale_list_of_revisions(tmp_path: Path) -> None:
    """Below the prefix the ids are the source's, which the host does not have as commits."""
    case = world.landed(tmp_path, source="ignore_revs", keep__originals=False)
    git(case.host, "gc", "--quiet", "--prune=now")
    git(case.host, "config", "blame.ignoreRevsFile", "rust/.git-blame-ignore-revs")
    ran = kit.run("doctor", "--host", str(case.host))
    assert "ids of rust/.git-blame-ignore-revs are not in this repository" in ran.out
    assert kit.run("doctor", "--host", str(case.host), "--fix").code == 0
    assert git(case.host, "config", "blame.ignoreRevsFile") == ".git-blame-ignore-revs"


def test_a_list_that_is_not_there_is_unset(tmp_path: Path) -> None:
    host = kit.host("plain", tmp_path / "host")
    git(host, "config", "blame.ignoreRevsFile", "nowhere")
    assert kit.run("doctor", "--host", str(host), "--fix").code == 0
    assert "ignoreRevsFile" not in git(host, "config", "--list", "--local")


def test_a_healthy_clone_and_a_bare_one(tmp_path: Path) -> None:
    host = kit.host("plain", tmp_path / "host")
    assert kit.run("doctor", "--host", str(host)).out.endswith("nothing is left of a submodule\n")
    bare = kit.host("bare", tmp_path / "bare")
    assert "is bare" in kit.run("doctor", "--host", str(bare)).err


def test_an_unknown_ref_is_refused(tmp_path: Path) -> None:
    host = kit.host("plain", tmp_path / "host")
    ran = kit.run("doctor", "--host", str(host), "--ref", "nowhere")
    assert (ran.code, "the clone has no 'nowhere'" in ran.err) == (2, True)


def test_the_imports_own_refs_do_not_matter(tmp_path: Path) -> None:
    case = world.landed(tmp_path)
    assert case.git("rev-parse", TIP)
    assert "nothing is left" in kit.run("doctor", "--host", str(case.host)).out
