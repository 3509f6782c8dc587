# SPDX-License-Identifier: Apache-2.0
"""One run after another, and beside another: what was fetched earlier, and who is at work."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from . import kit
from .generator import git, make_source, write_config


def with_tags(folder: Path, pin: str, *tags: str) -> kit.Case:
    """A source of the test's own, whose `main` ends two commits before `all`."""
    source = make_source("plain", folder / "source")
    git(source, "branch", "all", "main")
    git(source, "update-ref", "refs/heads/main", "main~2")
    git(source, "tag", "late", "all")
    host = kit.host("plain", folder / "host")
    values = {"source__pin": git(source, "rev-parse", pin), "source__tags": list(tags)}
    return kit.Case(host, source, write_config(host, source, **values))


def test_a_pin_that_the_source_s_branch_gets_later(tmp_path: Path) -> None:
    case = with_tags(tmp_path, "all")
    ran = case.run("import")
    assert ran.code == 2 and "is not in refs/heads/main" in ran.err
    git(case.source, "update-ref", "refs/heads/main", "all")
    ran = case.run("import")
    assert ran.code == 0, ran.err


def test_a_tag_that_the_source_moves_later(tmp_path: Path) -> None:
    case = with_tags(tmp_path, "main", "late")
    ran = case.run("import")
    assert ran.code == 2 and "tag late of source.tags" in ran.err
    git(case.source, "tag", "-f", "late", "main")
    ran = case.run("import")
    assert ran.code == 0, ran.err


@pytest.mark.parametrize("verb", ["plan", "import", "sync", "rescue"])
def test_a_second_run_of_the_same_import_is_refused(verb: str, tmp_path: Path) -> None:
    case = kit.case(tmp_path)
    lock = case.host / ".git" / "history-import" / "frontend.lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write("import, process 77")
        held.flush()
        before = kit.state(case.host)
        ran = case.run(verb)
        assert ran.code == 2, ran
        assert "another run of 'frontend' is at work (import, process 77)" in ran.err
        assert kit.state(case.host) == before
    assert case.run("import").code == 0


def test_what_a_run_left_in_the_lock_stops_nobody(tmp_path: Path) -> None:
    case = kit.case(tmp_path)
    assert case.run("plan").code == 0
    lock = case.host / ".git" / "history-import" / "frontend.lock"
    assert lock.read_text().startswith("plan, process ")
    assert case.run("import").code == 0
