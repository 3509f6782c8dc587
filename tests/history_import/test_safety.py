# SPDX-License-Identifier: Apache-2.0
"""Every refusal: exit code 2, one line with a remedy, and nothing changed in host or source."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tools.history_import import checks, filter_repo, importing, refs
from tools.history_import.errors import ProofFailed, Refused
from tools.history_import.git import Repository
from tools.history_import.refs import RefUpdate

from . import kit
from .generator import change, git, make_source, write_config

Change = Callable[[kit.Case], None]


def check(case: kit.Case, *said: str, verbs: tuple[str, ...] = ("plan", "import")) -> None:
    """Each verb refuses in one line that says all of `said`, and the repositories stay equal."""
    host, source = kit.state(case.host), kit.state(case.source)
    for verb in verbs:
        ran = case.run(verb)
        assert ran.code == 2, (verb, ran)
        lines = ran.err.splitlines()
        assert len(lines) == 1 and ran.out == ""
        for part in said:
            assert part in lines[0]
        assert kit.state(case.host) == host
    assert kit.state(case.source) == source


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("dirty", "1 uncommitted changes, such as README.md; commit or stash"),
        ("untracked_at_prefix", "1 untracked files are below rust/, such as rust/note.txt; move"),
        ("half_merged", "a merge is in progress"),
        ("on_target_branch", "branch import/frontend is checked out; switch to another"),
        ("shallow", "is a shallow clone; run git fetch --unshallow"),
        ("partial", "is a partial clone (remote.origin.promisor true); use a clone made without"),
        ("sha256", "is a SHA256 repository; only SHA-1"),
        (
            "occupied",
            "rust of main has files of its own; set another target.prefix, or remove it: git rm",
        ),
        ("occupied_by_file", "rust of main is a file; set another"),
        ("case_collision", "the host has Rust, which differs from rust of target.prefix only in"),
        ("inside_source", "is a commit of the source; the host must be another repository"),
        ("submodule_elsewhere", "is no ancestor of source.pin"),
    ],
)
def test_hosts(kind: str, said: str, tmp_path: Path) -> None:
    check(kit.case(tmp_path, kind), said)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("CHERRY_PICK_HEAD", "cherry-pick"),
        ("REVERT_HEAD", "revert"),
        ("BISECT_LOG", "bisect"),
        ("rebase-merge/", "rebase"),
        ("rebase-apply/", "rebase or am"),
        ("sequencer/", "sequence of picks"),
    ],
)
def test_anything_half_done(name: str, what: str, tmp_path: Path) -> None:
    case = kit.case(tmp_path)
    path = case.host / ".git" / name
    path.mkdir() if name.endswith("/") else path.write_text("x\n")
    check(case, f"a {what} is in progress", "finish or abort it")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"source__pin": "main"}, ("source.pin is 'main'", "git ls-remote")),
        ({"source__pin": "a" * 40}, ("is not in refs/heads/main", "its tip is")),
        ({"source__pin": "a" * 64}, ("it is of a SHA-256 repository",)),
        (
            {"source__ref": "refs/heads/none", "source__pin": "a" * 40},
            ("cannot fetch", "source.ref"),
        ),
        (
            {"source__url": "/nowhere"},
            ("cannot fetch refs/heads/main of /nowhere", "check source.url"),
        ),
        ({"source__tags": ["none"]}, ("cannot fetch", "none")),
        ({"target__base": "trunk"}, ("the host has no branch trunk", "one of: main")),
        ({"target__branch": "main/x"}, ("branch main/x cannot exist beside branch main",)),
        (
            {"target__prefix": "README.md/x"},
            ("README.md of main is a file", "another target.prefix"),
        ),
        ({"target__prefix": "ENGINE/x"}, ("the host has engine, which differs from ENGINE",)),
        (
            {"engine__filter_repo": "2.38.0"},
            ("2.47.0 is installed", "pip install git-filter-repo==2.38.0"),
        ),
        (
            {"require__max_blob_bytes": 100},
            ("require.max_blob_bytes is 100", "LICENSE has 311 bytes"),
        ),
        ({"require__dco": "strict"}, ("11 commits of 2 authors have no sign-off", "strict")),
        ({"require__dco": "remediation"}, ("11 commits of 2 authors", "remediation")),
        ({"target__squash": True}, ("unknown key target.squash",)),
    ],
)
def test_configurations(values: dict[str, Any], said: tuple[str, ...], tmp_path: Path) -> None:
    check(kit.case(tmp_path, **values), *said)


def test_a_licence_may_be_required(tmp_path: Path) -> None:
    case = kit.case(tmp_path, source_kind="merges", require__license=True)
    check(case, "no licence file at its root", "require.license = false")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("gitlink", "the source has a submodule of its own at"),
        ("change_id", "git-filter-repo drops the extended header change-id"),
        ("mode_100664", "from 100664 to 100644"),
        ("no_author_name", "git-filter-repo cannot read"),
    ],
)
def test_sources(kind: str, said: str, tmp_path: Path) -> None:
    check(kit.case(tmp_path, source_kind=kind), said)


def test_a_source_of_another_object_format(tmp_path: Path) -> None:
    source = make_source("sha256", tmp_path / "source")
    host = kit.host("plain", tmp_path / "host")
    config = write_config(host, source, source__pin="a" * 40)
    check(kit.Case(host, source, config), "it is a SHA-256 repository")


def test_a_shallow_source(tmp_path: Path) -> None:
    full, shallow = kit.source("plain"), tmp_path / "shallow.git"
    git(tmp_path, "clone", "--quiet", "--bare", "--depth=3", full.as_uri(), str(shallow))
    host = kit.host("plain", tmp_path / "host")
    case = kit.Case(host, shallow, write_config(host, shallow))
    check(case, "is a shallow clone; name a source with its whole history")


@pytest.mark.parametrize("kind", ["merges", "three_roots", "octopus"])
def test_a_line_is_never_made_by_flattening(kind: str, tmp_path: Path) -> None:
    case = kit.case(tmp_path, source_kind=kind, target__layout="linear")
    check(case, "layout linear needs a source with", 'layout = "merge"')


def test_a_submodule_is_not_replaced_without_being_asked(tmp_path: Path) -> None:
    case = kit.case(tmp_path, "submodule", target__replaces_submodule=False)
    check(case, "rust of main is a submodule at", "target.replaces_submodule = true")


def test_a_submodule_in_the_linear_layout(tmp_path: Path) -> None:
    check(kit.case(tmp_path, "submodule", target__layout="linear"), "layout linear cannot replace")


def test_a_prefix_below_a_submodule(tmp_path: Path) -> None:
    check(kit.case(tmp_path, "submodule", target__prefix="rust/x"), "rust of main is a submodule")


def test_a_branch_checked_out_in_another_working_tree(tmp_path: Path) -> None:
    case = kit.case(tmp_path)
    where = str(tmp_path / "other")
    git(case.host, "worktree", "add", "--quiet", "-b", "import/frontend", where)
    check(case, "branch import/frontend is checked out")


def test_a_tag_outside_the_pinned_history(tmp_path: Path) -> None:
    source = make_source("plain", tmp_path / "source")
    git(source, "tag", "late", "main")
    host = kit.host("plain", tmp_path / "host")
    pin = git(source, "rev-parse", "main~2")
    config = write_config(host, source, source__tags=["late"], source__pin=pin)
    check(kit.Case(host, source, config), "tag late of source.tags", verbs=("import",))


def test_filter_repo_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filter_repo, "installed", lambda: None)
    check(kit.case(tmp_path), "git-filter-repo is not installed", "pip install git-filter-repo==")


def test_without_filter_repo_the_graft_can_be_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filter_repo, "installed", lambda: None)
    case = kit.case(tmp_path, engine__use="graft")
    assert "(graft 1 was not compared)" in case.run("plan").out


def test_no_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda path: usage._replace(free=5 << 20))
    check(kit.case(tmp_path), "5 MiB are free", "make room")


def test_a_file_system_that_fills_up_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "pack")

    monkeypatch.setattr("tools.history_import.stage.adopt", full)
    check(kit.case(tmp_path), "No space left on device", verbs=("import",))


def test_an_old_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "OLDEST_GIT", (9, 0))
    check(kit.case(tmp_path), "is too old")


def test_nobody_to_sign_the_merge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = kit.case(tmp_path)
    git(case.host, "config", "--unset", "user.name")
    git(case.host, "config", "--unset", "user.email")
    git(case.host, "config", "user.useConfigOnly", "true")
    for name in ("NAME", "EMAIL"):
        monkeypatch.delenv(f"GIT_AUTHOR_{name}")
        monkeypatch.delenv(f"GIT_COMMITTER_{name}")
    check(case, "git does not know who you are", "git config user.name", verbs=("import",))


def without_override() -> None:
    """Root may write anywhere; after the next exec this process may not (Linux)."""
    if os.getuid() == 0:
        drop_from_bounding_set, dac_override = 24, 1
        ctypes.CDLL(None).prctl(drop_from_bounding_set, dac_override, 0, 0, 0)


def test_a_read_only_repository(tmp_path: Path) -> None:
    case = kit.case(tmp_path)
    before = kit.state(case.host)
    folders = [case.host, *(path for path in case.host.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o555)
    words = ["-m", "tools.history_import", "import", str(case.config), "--host", str(case.host)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=root,
        preexec_fn=without_override,
        capture_output=True,
        check=False,
        text=True,
    )
    for path in folders:
        path.chmod(0o755)
    assert done.returncode == 2, done
    assert len(done.stderr.splitlines()) == 1
    assert "cannot write in" in done.stderr and "must be writable" in done.stderr
    assert kit.state(case.host) == before


def test_a_history_that_is_not_accepted_moves_no_ref(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer with a bug: every committer's date is a second late."""
    whole = importing.prepare.engines.Graft._image_data

    def late(self: Any, *args: Any) -> bytes:
        data = whole(self, *args)
        at = data.index(b" +", data.index(b"\ncommitter "))
        return data[: at - 1] + (b"1" if data[at - 1 : at] == b"0" else b"0") + data[at:]

    monkeypatch.setattr(importing.prepare.engines.Graft, "_image_data", late)
    case = kit.case(tmp_path, engine__use="graft")
    before = kit.state(case.host)
    ran = case.run("import")
    assert ran.code == ProofFailed.exit_code == 1
    assert "the new history was not accepted" in ran.err and "point 5" in ran.err
    assert kit.state(case.host) == before


def test_a_ref_that_moved_meanwhile_stops_all_of_them(tmp_path: Path) -> None:
    case = kit.case(tmp_path)
    host, tip = Repository(case.host), case.git("rev-parse", "main")
    before = kit.state(case.host)
    updates = [
        RefUpdate("refs/imports/frontend/tip", tip, None),
        RefUpdate(
            "refs/heads/main", case.git("rev-parse", "main~1"), case.git("rev-parse", "main~2")
        ),
    ]
    with pytest.raises(Refused, match="the refs were not moved"):
        refs.transaction(host, updates)
    assert kit.state(case.host) == before


def test_refs_already_as_wanted_are_no_updates(tmp_path: Path) -> None:
    case = kit.case(tmp_path)
    tip = case.git("rev-parse", "main")
    wanted = {"refs/heads/main": tip, "refs/x/y": tip}
    assert refs.plan(Repository(case.host), wanted) == [RefUpdate("refs/x/y", tip, None)]


def test_hooks_of_the_host_do_not_run(tmp_path: Path) -> None:
    case = kit.case(tmp_path)
    hooks = case.host / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("reference-transaction", "post-checkout", "pre-commit", "update"):
        (hooks / name).write_text("#!/bin/sh\nexit 1\n")
        (hooks / name).chmod(0o755)
    assert case.run("import").code == 0


def test_the_source_is_only_read(tmp_path: Path) -> None:
    """Not even a lock or a pack appears in it."""
    source = make_source("plain", tmp_path / "source")

    def files() -> dict[str, int]:
        return {str(p): p.stat().st_mtime_ns for p in source.rglob("*")}

    before = files()
    host = kit.host("plain", tmp_path / "host")
    assert kit.Case(host, source, write_config(host, source)).run("import").code == 0
    assert files() == before
    alternates = host / ".git" / "objects" / "info" / "alternates"
    assert not alternates.exists()


def test_untracked_files_elsewhere_are_nobody_s_business(tmp_path: Path) -> None:
    case = kit.case(tmp_path)
    (case.host / "note.txt").write_text("mine\n")
    assert case.run("import").code == 0


def test_a_changed_submodule_is_a_change(tmp_path: Path) -> None:
    case = kit.case(tmp_path)
    change(case.host, {"README.md": b"moved on\n"}, "on the branch, not on disk")
    check(case, "uncommitted changes, such as README.md")


@pytest.mark.parametrize("name", ["refs/replace/{tip}", "refs/original/refs/heads/main"])
def test_a_host_whose_history_is_shown_otherwise(name: str, tmp_path: Path) -> None:
    case = kit.case(tmp_path)
    made = case.git("rev-parse", "main")
    ref = name.format(tip=made)
    git(case.host, "update-ref", ref, case.git("rev-parse", "main^"))
    check(case, f"the host has {ref}, which changes what", f"git update-ref -d {ref}")
