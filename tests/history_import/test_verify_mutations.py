# SPDX-License-Identifier: Apache-2.0
"""Every broken import is found by the point that is responsible for it; the right ones pass."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tools.history_import import config as configuration
from tools.history_import import verify
from tools.history_import.config import Config
from tools.history_import.git import Repository

from .generator import change, git, make_host, tip, write_config
from .mutation import BRANCH, gitmodules, replaced, second
from .mutation_source import LINEAR, tell
from .mutations import MUTATIONS, Mutation
from .third_writer import PERSON, Build, Draft

# Points whose failure may show in blame; the others are proved without it, which is faster.
CONTENT = {1, 2, 3, 4, 9, 13}
Places = dict[str, Path]


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    """Made once; what a test changes is a copy."""
    folder = tmp_path_factory.mktemp("mutations")
    made = {shape: tell(folder / shape, shape) for shape in ("merges", LINEAR)}
    return made | {"host": make_host("plain", folder / "host")}


def prepared(places: Places, folder: Path, linear: bool, **keys: object) -> tuple[Build, Config]:
    source = places[LINEAR if linear else "merges"]
    host = shutil.copytree(places["host"], folder / "host")
    pin = str(keys.pop("source__pin", "refs/heads/main"))
    overrides = {
        "engine__use": "graft",
        "target__layout": "linear" if linear else "merge",
        "source__pin": tip(source, pin),
        **keys,
    }
    config = configuration.load(write_config(host, source, **overrides))
    facts = {"name": config.name, "url": config.source.url, "digest": config.digest}
    return Build(source, host, facts, linear=linear), config


def proved(
    build: Build, config: Config, before: dict[bytes, str], blame: bool = True
) -> verify.VerifyResult:
    return verify.run(config, Repository(build.host), BRANCH, build.source, before, blame=blame)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_broken_import_is_named(mutation: Mutation, places: Places, tmp_path: Path) -> None:
    build, config = prepared(places, tmp_path, mutation.linear, **dict(mutation.config))
    before = Repository(build.host).refs()
    mutation.spoil(build)
    changed_before = {b"refs/heads/main"} if mutation.point != 16 else set()
    now = Repository(build.host).refs()
    before |= {name: now[name] for name in changed_before}
    result = proved(build, config, before, blame=mutation.point in CONTENT)
    text = "\n".join(result.lines())
    assert result.exit_code == 1
    assert set(result.failed()) == {mutation.point, *mutation.others}, text
    assert mutation.says in "\n".join(result.find(mutation.point).findings), text


def test_there_are_enough_mutations() -> None:
    assert len(MUTATIONS) >= 30
    assert {mutation.point for mutation in MUTATIONS} == set(range(1, 17)) - {14}


@pytest.mark.parametrize("linear", [False, True])
def test_a_right_import_passes(linear: bool, places: Places, tmp_path: Path) -> None:
    build, config = prepared(places, tmp_path, linear)
    before = Repository(build.host).refs()
    build.run()
    result = proved(build, config, before)
    assert result.failed() == [], "\n".join(result.lines())
    assert all(point.ok for point in result.points)
    assert result.find(14).counts["lines equal"] > 30


def test_a_right_sync_passes_with_edits_of_the_host(places: Places, tmp_path: Path) -> None:
    build, config = prepared(places, tmp_path, False, source__pin="refs/heads/later")
    before = Repository(build.host).refs()
    build.run(tip(build.source))
    change(build.host, {"rust/run.sh": b"#!/bin/bash\n"}, "rust: bash\n", ref=BRANCH)
    image = build.make_images(tip(build.source, "refs/heads/later"))
    build.workshop.write(build.host)
    merged = git(build.host, "merge-tree", "--write-tree", tip(build.host, BRANCH), image)
    second(build, "refs/heads/later", tree=merged)
    result = proved(build, config, before)
    assert result.failed() == [], "\n".join(result.lines())
    assert len(result.imports) == 2
    assert result.find(14).counts["files changed by the host"] == 1


def test_a_sync_of_what_the_host_had_first_passes(places: Places, tmp_path: Path) -> None:
    """Git follows the host's line for such a file; its imported history is there all the same."""
    build, config = prepared(places, tmp_path, False, source__pin="refs/heads/later")
    build.run(tip(build.source))
    later = git(build.source, "cat-file", "blob", "later:later.txt").encode() + b"\n"
    change(build.host, {"rust/later.txt": later}, "rust: ours first\n", ref=BRANCH)
    second(build, "refs/heads/later")
    result = verify.run(config, Repository(build.host), BRANCH, build.source)
    assert result.failed() == [], "\n".join(result.lines())
    assert "asked at the imported tip" in result.find(14).detail


def test_a_sync_resolved_by_hand_is_listed(places: Places, tmp_path: Path) -> None:
    build, config = prepared(places, tmp_path, False, source__pin="refs/heads/later")
    build.run(tip(build.source))
    change(build.host, {"rust/run.sh": b"#!/bin/bash\n"}, "rust: bash\n", ref=BRANCH)
    second(build, "refs/heads/later", resolution="hand-made")
    result = verify.run(config, Repository(build.host), BRANCH, build.source)
    assert result.failed() == [], "\n".join(result.lines())
    assert "resolved by hand" in result.find(9).detail


def land(build: Build, joined: str, message: str) -> None:
    """The forge's merge commit on main."""
    host = tip(build.host)
    tree = git(build.host, "merge-tree", "--write-tree", host, joined)
    draft = Draft(tree, [host, joined], PERSON, PERSON, [], message.encode())
    oid = draft.write(build.workshop)
    build.workshop.write(build.host)
    build.ref("refs/heads/main", oid)


def test_a_landed_branch_is_proved_on_main(places: Places, tmp_path: Path) -> None:
    """The forge's merge commit is on top, and main went on in between."""
    build, config = prepared(places, tmp_path, False)
    joined = build.run()
    change(build.host, {"later.txt": b"later\n"}, "engine: later\n")
    land(build, joined, "Merge the import (#7)\n")
    result = verify.run(config, Repository(build.host), "main", build.source)
    assert result.failed() == [], "\n".join(result.lines())


@pytest.mark.parametrize("last", [True, False])
def test_a_landing_that_quotes_the_join_is_no_squash(
    last: bool, places: Places, tmp_path: Path
) -> None:
    """As forges do with the description of what they merge."""
    build, config = prepared(places, tmp_path, False)
    joined = build.run()
    said = git(build.host, "log", "-1", "--format=%B", joined) + ("" if last else "\n\nAcked-by: x")
    landed = f"Merge the import (#7)\n\n{said}\n"
    land(build, joined, landed)
    change(build.host, {"rust/own.rs": b"ours\n"}, "History-Import-Name: frontend\n")
    result = verify.run(config, Repository(build.host), "main", build.source)
    assert result.failed() == [], "\n".join(result.lines())


def test_a_declared_submodule_entry_may_go(places: Places, tmp_path: Path) -> None:
    build, config = prepared(places, tmp_path, False)
    gitmodules(build, ("frontend", "rust"))

    def without_modules(draft: Draft) -> None:
        draft.tree = replaced(build, draft.tree, b".gitmodules", None)

    build.on_join = without_modules
    build.run()
    result = verify.run(config, Repository(build.host), BRANCH, build.source)
    assert result.failed() == [], "\n".join(result.lines())
