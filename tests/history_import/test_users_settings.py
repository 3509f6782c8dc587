# SPDX-License-Identifier: Apache-2.0
"""What the user's own configuration makes of the host's files: clean is what `git status` says."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from . import kit
from .generator import git

CRLF = "[core]\n\tautocrlf = true\n"
FILTER = '[filter "upper"]\n\tclean = tr a-z A-Z\n\tsmudge = tr A-Z a-z\n'


def as_user(case: kit.Case, *words: str) -> None:
    """The generator's own git knows no user's settings."""
    subprocess.run(["git", *words], cwd=case.host, check=True)


def fresh(case: kit.Case, name: str) -> None:
    """Written anew as git writes it, and later than the index, so that its bytes are compared."""
    (case.host / name).unlink()
    as_user(case, "checkout", "--", name)
    os.utime(case.host / name, (2_000_000_000, 2_000_000_000))


def settings(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "settings"
    path.write_text(text)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(path))


def test_line_ends_of_the_user_s_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = kit.case(tmp_path)
    settings(tmp_path, CRLF, monkeypatch)
    fresh(case, "README.md")
    assert b"\r\n" in (case.host / "README.md").read_bytes()
    ran = case.run("plan")
    assert ran.code == 0, ran.err


def test_a_filter_of_the_user_s_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = kit.case(tmp_path)
    settings(tmp_path, FILTER, monkeypatch)
    (case.host / "loud.txt").write_text("loud\n")
    (case.host / ".gitattributes").write_text("loud.txt filter=upper\n")
    as_user(case, "add", "loud.txt", ".gitattributes")
    as_user(case, "commit", "--quiet", "-m", "a file with a filter")
    fresh(case, "loud.txt")
    ran = case.run("plan")
    assert ran.code == 0, ran.err


def test_what_the_user_hides_is_a_change_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = kit.case(tmp_path, "submodule_only")
    settings(tmp_path, "[diff]\n\tignoreSubmodules = all\n", monkeypatch)
    git(case.host, "-c", "protocol.file.allow=always", "submodule", "update", "--quiet", "--init")
    (case.host / "rust" / "README.md").write_text("edited\n")
    ran = case.run("import")
    assert ran.code == 2 and "uncommitted changes, such as rust" in ran.err
