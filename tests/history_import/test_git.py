# SPDX-License-Identifier: Apache-2.0
"""Objects are read raw, and nothing of the user's configuration reaches git."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.history_import import git
from tools.history_import.errors import GitFailed
from tools.history_import.git import Repository

ODD = (
    b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n"
    b"author  <> 1 +051800\n"
    b"committer C <c@d> 2 -0000\n"
    b"encoding latin-1\n"
    b"gpgsig -----BEGIN\n \n abc\n"
    b"change-id xyz\n"
    b"\n"
    b"caf\xe9\n\nno final newline"
)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path)
    made.git("init", "--quiet")
    made.git("hash-object", "-t", "tree", "-w", "--stdin")
    return made


def write(repository: Repository, kind: str, data: bytes) -> str:
    command = ["hash-object", "-t", kind, "-w", "--stdin", "--literally"]
    return repository.git(*command, input=data).decode().strip()


def test_a_commit_is_kept_to_the_byte(repository: Repository) -> None:
    oid = write(repository, "commit", ODD)
    with repository.objects() as objects:
        commit = objects.commit(oid)
    assert commit.author == b" <> 1 +051800"
    assert commit.header(b"gpgsig") == b"-----BEGIN\n\nabc"
    assert commit.message == b"caf\xe9\n\nno final newline"
    assert [key for key, _ in commit.headers][-2:] == [b"gpgsig", b"change-id"]
    assert commit.parents == [] and commit.tree.startswith("4b825dc6")


def test_empty_message_and_none_at_all() -> None:
    assert git.parse_commit(b"tree 1\nauthor a\n\n").message == b""
    assert git.parse_commit(b"tree 1\nauthor a\n").headers[-1] == (b"author", b"a")


def test_more_objects_than_one_exchange(repository: Repository) -> None:
    oids = [write(repository, "blob", b"%d" % n) for n in range(3)] * 400
    with repository.objects() as objects:
        assert [data for _, _, data in objects.read_many(oids)] == [b"0", b"1", b"2"] * 400


def test_tree_names_are_bytes(repository: Repository) -> None:
    blob = write(repository, "blob", b"x")
    entry = b'100664 caf\xe9\n"\0' + bytes.fromhex(blob)
    tree = write(repository, "tree", entry)
    with repository.objects() as objects:
        assert objects.tree(tree) == [git.TreeEntry(b"100664", b'caf\xe9\n"', blob)]


def test_a_missing_object_is_named(repository: Repository) -> None:
    with repository.objects() as objects, pytest.raises(GitFailed, match="f" * 40):
        objects.read("f" * 40)


def test_no_outer_configuration(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "settings"
    settings.write_text("[user]\n\tname = Outer\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert repository.code("config", "user.name") == 1
    assert repository.git("config", "user.name", user=True) == b"Outer\n"


def test_configuration_in_variables_is_the_user_s(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CI hands credentials down this way; they serve the fetch and nothing else."""
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.name")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "Handed Down")
    assert repository.git("config", "user.name", user=True) == b"Handed Down\n"
    assert repository.code("config", "user.name") == 1


def test_a_failed_command_says_which(repository: Repository) -> None:
    with pytest.raises(GitFailed, match="git rev-parse no-such-name"):
        repository.git("rev-parse", "no-such-name")
