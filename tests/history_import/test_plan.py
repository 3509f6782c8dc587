# SPDX-License-Identifier: Apache-2.0
"""The plan: what it says, what it leaves in its folder, and that it changes nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.history_import import ignore_revs, plan_files, signoff
from tools.history_import.git import parse_commit

from . import kit
from .generator import change, git, make_source, tip, write_config

PROFILE = """\
source   Inferact/vllm-frontend-rs  main  ID   275 commits, 0 merges, 5 authors, SIZE
target   rust/ (now a submodule at ID, 4 commits behind the pin)
layout   merge: +2 commits on main's first-parent line
tip      will be ID (filter-repo 2.47.0 and graft 1 agree)
rewrite  175 messages qualified, 0 closing keywords defused, 0 hashes translated; \
list: FOLDER/messages.txt
files    .git-blame-ignore-revs: 1 id translated into FOLDER/blame-ignore-revs for the root; \
inert below rust/: .github
names    LICENSE, README.md at both roots, no conflict
licence  present since commit 237 of 275
DCO      168 commits of 5 authors without sign-off; texts: FOLDER/dco/
size     largest of 2,357 blobs: 125.0 KiB (Cargo.lock)
forge    277 commits: over 250 (lists are cut) and over 100 (no rebase merge); \
signatures: 275 lost, originals kept
nothing was changed
"""


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[kit.Case, Path, kit.Ran]:
    folder = tmp_path_factory.mktemp("plan")
    case = kit.case(folder, "submodule", "profile")
    return case, folder / "plan", case.run("plan", "--plan-folder", str(folder / "plan"))


def test_the_whole_text(planned: tuple[kit.Case, Path, kit.Ran]) -> None:
    _, folder, ran = planned
    shown = ran.out.replace(str(folder), "FOLDER")
    shown = re.sub(r"\b[0-9a-f]{8}\b", "ID", shown)
    assert re.sub(r"[0-9.]+ MiB", "SIZE", shown) == PROFILE
    assert (folder / "summary.txt").read_text() == ran.out


def test_rewritten_messages_are_listed_before_and_after(
    planned: tuple[kit.Case, Path, kit.Ran],
) -> None:
    _, folder, _ = planned
    lines = (folder / "messages.txt").read_bytes().splitlines()
    assert sum(line.startswith(b"commit ") for line in lines) == 175
    before = [line[2:] for line in lines if line.startswith(b"- ")]
    after = [line[2:] for line in lines if line.startswith(b"+ ")]
    assert [line.replace(b"Inferact/vllm-frontend-rs#", b"#") for line in after] == before


def test_dco_texts_name_the_images_of_every_unsigned_commit(
    planned: tuple[kit.Case, Path, kit.Ran],
) -> None:
    case, folder, _ = planned
    texts = [path.read_text() for path in (folder / "dco").iterdir()]
    assert len(texts) == 5
    named = re.findall(r"to this commit: ([0-9a-f]{40})", "".join(texts))
    assert len(set(named)) == len(named) == 168
    assert case.run("import").code == 0
    assert set(named) <= set(case.git("rev-list", "refs/imports/frontend/tip").split())


def test_every_address_has_a_file_of_its_own(tmp_path: Path) -> None:
    long = b"a" * 300
    odd = [b"a/b@x", b"a_b@x", b".a_b@x", b"", b"nobody", "é".encode() * 150, b"\xff@x", b"\xfe@x"]
    addresses = [*odd, long + b"@x", long + b"@y"]
    for address in addresses:
        (tmp_path / f"{plan_files.file_name(address)}.txt").write_bytes(address)
    assert len(list(tmp_path.iterdir())) == len(addresses)
    assert plan_files.file_name(b"mona@example.org") == "mona@example.org"


def test_the_forecast_comes_true(tmp_path: Path) -> None:
    case = kit.case(tmp_path, source_kind="merges")
    forecast = case.run("plan", "--json").data["result"]
    assert case.run("import").code == 0
    assert case.git("rev-parse", "refs/imports/frontend/tip") == forecast["tip"]


@pytest.mark.parametrize("kind", ["plain", "bare", "submodule", "colliding"])
def test_nothing_is_changed(kind: str, tmp_path: Path) -> None:
    case = kit.case(tmp_path, kind)
    host, source = kit.state(case.host), kit.state(case.source)
    ran = case.run("plan")
    assert ran.code == 0 and ran.out.endswith("nothing was changed\n")
    assert kit.state(case.host) == host and kit.state(case.source) == source


def test_as_data(tmp_path: Path) -> None:
    case = kit.case(tmp_path, source_kind="signatures")
    result = case.run("plan", "--json").data["result"]
    assert result["profile"]["signatures"] == 4 and result["profile"]["commits"] == 5
    assert result["engines"] == ["filter-repo 2.47.0", "graft 1"]


def test_a_named_folder_keeps_what_is_not_the_plan_s(tmp_path: Path) -> None:
    case = kit.case(tmp_path, source_kind="ignore_revs")
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "notes").write_text("mine")
    for _ in range(2):
        assert case.run("plan", "--plan-folder", str(folder)).code == 0
    assert (folder / "notes").read_text() == "mine"
    assert (folder / "blame-ignore-revs").exists()


def test_odd_things_are_said(tmp_path: Path) -> None:
    case = kit.case(tmp_path, source_kind="change_id", engine__use="graft")
    said = case.run("plan").out
    assert "odd      header change-id since" in said
    assert "drops the extended header change-id" in said


def test_an_own_list_for_blame_is_not_overwritten(tmp_path: Path) -> None:
    case = kit.case(tmp_path, "own_ignore_revs", "ignore_revs")
    assert "to merge by hand into the root's" in case.run("plan").out


def test_files_that_differ_only_in_case_are_named(tmp_path: Path) -> None:
    source = make_source("plain", tmp_path / "source")
    change(source, {"SRC/x": b"1"}, "a second folder src")
    host = kit.host("plain", tmp_path / "host")
    said = kit.Case(host, source, write_config(host, source)).run("plan").out
    assert "src: differs from another path only in case" in said


def test_scripts_that_use_submodules_are_named(tmp_path: Path) -> None:
    case = kit.case(tmp_path, "submodule")
    change(case.host, {"Makefile": b"x:\n\tgit submodule update\n"}, "a script")
    git(case.host, "reset", "--quiet", "--hard")
    assert "the word submodule is in Makefile" in case.run("plan").out


def test_the_list_for_blame() -> None:
    images = {"a" * 40: "1" * 40, "abc" + "0" * 37: "2" * 40}
    data = b"# why\r\n\n" + b"a" * 40 + b"  # reformat\nabc0\nffff\n" + b"b" * 40
    done = ignore_revs.translate(data, images)
    assert done.data == (
        b"# why\r\n\n" + b"1" * 40 + b"  # reformat\n" + b"2" * 40 + b"\n"
        b"# not in the imported history: ffff\n# not in the imported history: " + b"b" * 40
    )
    assert (done.ids, done.unknown) == (2, 2)


def test_sign_off_must_be_the_author_s() -> None:
    def commit(author: bytes, message: bytes, parents: int = 1) -> tuple[str, object]:
        over = b"parent x\n" * parents
        head = b"tree t\n" + over + b"author " + author + b" 1 +0000\n\n"
        data = head + message
        return str(abs(hash(data)) % 10**8).zfill(40), parse_commit(data)

    ada, ben = b"Ada <ada@x>", b"Ben <Ben@X>"
    commits = [
        commit(ada, b"a\n\nSigned-off-by: Ada <ADA@x>\n"),
        commit(ada, b"b\n\nSigned-off-by: Ben <ben@x>\n"),
        commit(ben, b"c\n\nsigned-off-by: Ben <ben@x>"),
        commit(ben, b"a merge\n", parents=2),
        commit(ben, b"d"),
    ]
    found = signoff.unsigned(commits)  # type: ignore[arg-type]
    assert [(who.email, who.subjects) for who in found] == [(b"ada@x", [b"b"]), (b"ben@x", [b"d"])]
    remedy = (
        b"I, Ben <Ben@X>, hereby add my Signed-off-by to this commit: " + commits[4][0].encode()
    )
    found = signoff.unsigned([*commits, commit(ben, remedy + b"\n\nSigned-off-by: Ben <ben@x>")])  # type: ignore[list-item]
    assert signoff.open_commits(found) == 1


def test_the_pin_may_be_behind_the_ref(tmp_path: Path) -> None:
    behind = git(kit.source("plain"), "rev-parse", "main~3")
    case = kit.case(tmp_path, source__pin=behind)
    assert "9 commits, 0 merges" in case.run("plan").out
    assert case.run("import").code == 0
    assert case.git("rev-parse", "refs/imports/frontend/original") == behind
    ahead = tip(case.source)
    assert git(case.host, "cat-file", "--batch-check", stdin=ahead.encode()).endswith("missing")
