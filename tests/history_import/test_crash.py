# SPDX-License-Identifier: Apache-2.0
"""`import` killed at every step: all refs are as before, and the next run succeeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.history_import import importing

from . import crash, kit

STEPS = [
    "prepare.checked",
    "prepare.scratch",
    "scratch.before_fetch",
    "scratch.fetched",
    "filter_repo.start",
    "filter_repo.started",
    "prepare.profiled",
    "graft.before_write",
    "graft.written",
    "engines.grafted",
    "filter_repo.ended",
    "engines.compared",
    "prepare.rewritten",
    "stage.made",
    "import.join",
    "import.join:2",
    "import.joined",
    "import.before_proof",
    "import.proved",
    "stage.before_land",
    "stage.pack",
    "stage.pack:2",
    "stage.loose",
    "stage.landed",
    "import.before_refs",
    "refs.before",
    "refs.started",
    "refs.queued",
    "refs.queued:2",
    "refs.queued:3",
    "refs.queued:4",
    "refs.queued:5",
    "refs.prepared",
]
# From here on all refs are new, together.
DONE = ["refs.committed", "import.discarded"]
LINEAR = ["linear.before_write", "linear.written"]


@pytest.fixture(autouse=True)
def no_questions_to_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    """They change nothing, and are most of an import's processes."""
    monkeypatch.setattr(importing, "LARGE", 0)


def case(folder: Path) -> kit.Case:
    """A submodule behind the pin: two joins."""
    return kit.case(folder, "submodule_only")


def refs(case: kit.Case) -> str:
    return case.git("for-each-ref")


def test_the_list_is_complete(tmp_path: Path) -> None:
    assert crash.passed(case(tmp_path), "import", tmp_path / "log") == STEPS + DONE
    assert len(STEPS) >= 30


@pytest.mark.parametrize("step", STEPS)
def test_killed_before_the_refs_moved(step: str, tmp_path: Path) -> None:
    made = case(tmp_path)
    before = kit.state(made.host)
    crash.killed(made, "import", step)
    assert kit.state(made.host) == before
    ran = made.run("import")
    assert ran.code == 0, ran.err
    assert ran.out.startswith("1/2 switch")
    made.git("fsck", "--connectivity-only")


@pytest.mark.parametrize("step", DONE)
def test_killed_after_the_refs_moved(step: str, tmp_path: Path) -> None:
    made = case(tmp_path)
    crash.killed(made, "import", step)
    moved = refs(made)
    assert moved.count("\n") + 1 == 6
    assert made.run("import").out.startswith("nothing to do")
    assert refs(made) == moved
    made.git("fsck", "--connectivity-only")


@pytest.mark.parametrize("step", LINEAR)
def test_killed_in_the_linear_layout(step: str, tmp_path: Path) -> None:
    made = kit.case(tmp_path, target__layout="linear")
    before = kit.state(made.host)
    crash.killed(made, "import", step)
    assert kit.state(made.host) == before
    assert made.run("import").code == 0


def test_what_was_fetched_is_not_fetched_again(tmp_path: Path) -> None:
    made = case(tmp_path)
    crash.killed(made, "import", "scratch.fetched")
    log = tmp_path / "log"
    assert "scratch.before_fetch" not in crash.passed(made, "import", log)
