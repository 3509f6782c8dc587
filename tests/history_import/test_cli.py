# SPDX-License-Identifier: Apache-2.0
"""Usage, exit codes and the two forms of an error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.history_import import cli, report
from tools.history_import.errors import Conflict, ProofFailed, Refused


def test_each_kind_of_error_has_its_exit_code() -> None:
    assert [kind.exit_code for kind in (ProofFailed, Refused, Conflict)] == [1, 2, 3]


def test_no_verb_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "exit codes" in capsys.readouterr().out


def test_unknown_verb_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["push"]) == 2
    assert "'push'" in capsys.readouterr().err


def test_not_a_repository(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="not in a git repository"):
        cli.open_host(tmp_path)


def test_bytes_that_are_not_utf8_become_escapes() -> None:
    assert report.plain({b"a\xff": (Path("x"), 1)}) == {"a\\xff": ["x", 1]}


def test_every_error_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", str(tmp_path / "none.toml")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_an_error_as_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", str(tmp_path / "none.toml"), "--json"]) == 2
    data = json.loads(capsys.readouterr().out)
    assert data["exit"] == 2 and data["error"] == "Refused" and "none.toml" in data["message"]


def test_an_interrupt_is_no_stack_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.configuration, "load", interrupted)
    assert cli.main(["plan", str(tmp_path / "x.toml")]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_reader_that_stops_is_no_failed_proof(tmp_path: Path) -> None:
    """`verify ... | head -1`"""
    words = [sys.executable, "-m", "tools.history_import", "--help"]
    reading, writing = os.pipe()
    os.close(reading)
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(words, cwd=root, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert done.returncode == 141 and done.stderr == b""


def test_what_nobody_expected_has_a_code_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(path: Path) -> None:
        raise KeyError("two\nlines")

    monkeypatch.setattr(cli.configuration, "load", broken)
    assert cli.main(["plan", str(tmp_path / "x.toml")]) == 70
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and "KeyError" in said and "report this" in said
