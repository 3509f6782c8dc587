# SPDX-License-Identifier: Apache-2.0
"""`sync` killed at every step: all refs are as before, and the next run succeeds.

One host is killed at one step after another. Every run but the first begins on what a killed one
left, and has to get further than it: so each step also proves the run after the step before.
"""

from __future__ import annotations

from pathlib import Path

from . import crash, kit, world
from .generator import advance, change, git
from .world import BRANCH, repin

STEPS = [
    "sync.prepared",
    "scratch.before_fetch",
    "scratch.fetched",
    "filter_repo.start",
    "filter_repo.started",
    "sync.profiled",
    "graft.before_write",
    "graft.written",
    "engines.grafted",
    "filter_repo.ended",
    "engines.compared",
    "sync.rewritten",
    "stage.made",
    "sync.staged",
    "sync.ancestry",
    "sync.merged",
    "sync.joined",
    "import.before_proof",
    "import.proved",
    "stage.before_land",
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
DONE = ["refs.committed", "sync.discarded"]
BOTH = {"engine__use": "both"}


def ready(folder: Path) -> kit.Case:
    """Landed, with work of the host's and of the source's since."""
    case = world.landed(folder, **BOTH)
    change(case.host, {"rust/src/lib.rs": b"host\n"}, "own\n")
    git(case.host, "reset", "--quiet", "--hard")
    advance(case.source, 2)
    return repin(case, **BOTH)


def test_the_list_is_complete(tmp_path: Path) -> None:
    assert crash.passed(ready(tmp_path), "sync", tmp_path / "log") == STEPS + DONE
    assert len(STEPS) >= 30


def test_killed_at_every_step_before_the_refs_moved(tmp_path: Path) -> None:
    case = ready(tmp_path)
    before = kit.state(case.host)
    for step in STEPS:
        crash.killed(case, "sync", step)
        assert kit.state(case.host) == before, step
    ran = case.run("sync")
    assert ran.code == 0, ran.err
    assert ran.out.startswith("sync to ")
    git(case.host, "fsck", "--connectivity-only")


def test_killed_after_the_refs_moved(tmp_path: Path) -> None:
    for step in DONE:
        case = ready(tmp_path / step)
        crash.killed(case, "sync", step)
        moved = case.git("for-each-ref")
        assert case.git("rev-parse", f"{BRANCH}^1") == case.git("rev-parse", "main")
        assert case.run("sync").out.startswith("nothing to do")
        assert case.git("for-each-ref") == moved
