# SPDX-License-Identifier: Apache-2.0
"""The generator itself: the same ids in every run, and every kind has what it is named after."""

from pathlib import Path

import pytest

from tests.history_import.generator import (
    HOSTS,
    advance,
    change,
    force_back,
    git,
    make_host,
    make_source,
    tip,
    write_config,
)
from tests.history_import.generator.objects import run_git
from tests.history_import.generator.sources import QUICK_SOURCES

QUICK = (*QUICK_SOURCES, "gitlink", "sha256")


@pytest.mark.parametrize("kind", QUICK)
def test_a_source_has_the_same_ids_in_every_run(kind: str, tmp_path: Path) -> None:
    first, second = make_source(kind, tmp_path / "a"), make_source(kind, tmp_path / "b")
    assert git(first, "for-each-ref") == git(second, "for-each-ref")
    git(first, "rev-list", "--objects", "--all")  # fails where an object is missing


@pytest.mark.parametrize("kind", [kind for kind in HOSTS if "submodule" not in kind])
def test_a_host_has_the_same_ids_in_every_run(kind: str, tmp_path: Path) -> None:
    source = make_source("plain", tmp_path / "source")
    first, second = (make_host(kind, tmp_path / name, source) for name in "ab")
    assert git(first, "for-each-ref") == git(second, "for-each-ref")


def test_edits_have_the_same_ids_in_every_run(tmp_path: Path) -> None:
    tips = set()
    for name in "ab":
        source = make_source("plain", tmp_path / name)
        change(source, {"README.md": None, "x": b"1\n"}, "x\n", moves={"LICENSE": "COPYING"})
        tips.add(advance(source) + force_back(source, 2))
    assert len(tips) == 1


def test_known_ids(tmp_path: Path) -> None:
    """A change of the generator shows here first; measured numbers depend on these histories."""
    assert (
        tip(make_source("plain", tmp_path / "plain")) == "e4aae7e74bbade33b579b761640438deb20f2f27"
    )
    assert (
        tip(make_source("profile", tmp_path / "profile"))
        == "9743b8aea835b341cff902d51526a6212e897288"
    )


def test_the_profile_is_the_one_of_the_first_real_source(tmp_path: Path) -> None:
    source = make_source("profile", tmp_path / "source")
    raw = git(source, "log", "--format=%B%x00", "-z", "main").split("\0")
    assert git(source, "rev-list", "--count", "main") == "275"
    assert git(source, "rev-list", "--min-parents=2", "main") == ""
    assert len(git(source, "ls-tree", "-r", "--name-only", "main").splitlines()) == 269
    assert "70396 insertions" in git(source, "diff", "--shortstat", EMPTY_TREE, "main")
    assert counts(source, "%an") == [1, 1, 1, 36, 236]
    assert counts(source, "%cn") == [100, 175]
    assert sum("(#" in message for message in raw) == 175
    assert all(b"\ngpgsig " in commit_bytes(source, oid) for oid in all_commits(source)[::20])
    unfinished = [
        oid for oid in all_commits(source) if not commit_bytes(source, oid).endswith(b"\n")
    ]
    assert len(unfinished) == 175


EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


def counts(source: Path, form: str) -> list[int]:
    names = git(source, "log", f"--format={form}", "main").splitlines()
    return sorted(names.count(name) for name in set(names))


def all_commits(source: Path) -> list[str]:
    return git(source, "rev-list", "main").splitlines()


def commit_bytes(source: Path, oid: str) -> bytes:
    return run_git(source, "cat-file", "commit", oid)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("merges", "parents 2"),
        ("octopus", "parents 6"),
        ("three_roots", "roots 3"),
        ("mode_100664", "mode 100664"),
        ("symlinks", "mode 120000"),
        ("executable", "mode 100755"),
        ("gitlink", "mode 160000"),
        ("odd_zone", "+051800"),
        ("no_author_name", "author <ghost@example.org>"),
        ("change_id", "change-id qpvuntsmwlqtpsluzzsnyyzlmlwvmlnu"),
        ("signatures", "mergetag object"),
        ("latin1", "encoding ISO-8859-1"),
        ("crlf_and_empty", "subject\r\n\r\nbody\r\n"),
        ("odd_names", "latin-\udcfc.txt"),
        ("odd_names", "new\nline.txt"),
        ("nested_prefix", "rust/rust/deep.rs"),
        ("tags", "refs/tags/v1"),
    ],
)
def test_a_source_has_what_it_is_named_after(kind: str, expected: str, tmp_path: Path) -> None:
    assert expected in portrait(make_source(kind, tmp_path / "source"))


def portrait(source: Path) -> str:
    """Everything that can be said about a small repository, as one text."""
    commits = git(source, "rev-list", "--all", "--parents").splitlines()
    widths = [f"parents {len(line.split()) - 1}" for line in commits]
    roots = f"roots {len(git(source, 'rev-list', '--max-parents=0', 'main').splitlines())}"
    trees = [git(source, "ls-tree", "-r", "-z", line.split()[0]) for line in commits]
    modes = [f"mode {entry[:6]}" for tree in trees for entry in tree.split("\0")]
    raw = [
        commit_bytes(source, line.split()[0]).decode(errors="surrogateescape") for line in commits
    ]
    return "\n".join([*widths, roots, *trees, *modes, *raw, git(source, "for-each-ref")])


def test_a_submodule_is_pinned_behind_the_source(tmp_path: Path) -> None:
    source = make_source("plain", tmp_path / "source")
    host = make_host("submodule", tmp_path / "host", source)
    pinned = git(host, "rev-parse", "main:rust")
    assert git(source, "rev-list", "--count", f"{pinned}..main") == "4"
    assert "frontend" in git(host, "show", "main:.gitmodules")


def test_a_configuration_can_be_changed_key_by_key(tmp_path: Path) -> None:
    source = make_source("plain", tmp_path / "source")
    host = make_host("plain", tmp_path / "host")
    text = write_config(host, source, target__prefix="a/b", messages__qualify=None).read_text()
    assert 'prefix = "a/b"' in text
    assert "qualify" not in text
    assert f'pin = "{tip(source)}"' in text
    assert git(host, "status", "--porcelain") == ""
