# SPDX-License-Identifier: Apache-2.0
"""Verify as a verb: every source of the generator, where the source is found, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzzing import examples
from tools.history_import import cli, verify
from tools.history_import import config as configuration
from tools.history_import.config import Config
from tools.history_import.errors import ProofFailed, Refused
from tools.history_import.git import Repository

from . import kit, world
from .generator import change, force_back, git, make_host, make_source, tip, write_config
from .generator.objects import run_git
from .generator.sources import QUICK_SOURCES
from .generator.story import Story
from .mutation import BRANCH
from .third_writer import Build, Draft


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_host("plain", tmp_path_factory.mktemp("hosts") / "host")


def build_of(source: Path, host: Path, **keys: object) -> tuple[Build, Config]:
    keys = {"engine__use": "graft", **keys}
    config = configuration.load(write_config(host, source, **keys))
    facts = {"name": config.name, "url": config.source.url, "digest": config.digest}
    return Build(source, host, facts, linear=config.target.layout == "linear"), config


@pytest.fixture
def imported(plain: Path, tmp_path: Path) -> tuple[Build, Config]:
    """The source `plain`, imported as it should be."""
    source = make_source("plain", tmp_path / "source")
    build, config = build_of(source, shutil.copytree(plain, tmp_path / "host"))
    build.run()
    return build, config


def check(build: Build, config: Config, **options: object) -> verify.VerifyResult:
    result = verify.run(config, Repository(build.host), BRANCH, **options)  # type: ignore[arg-type]
    return result


@pytest.mark.parametrize("kind", QUICK_SOURCES)
def test_a_right_import_of_every_source_passes(kind: str, plain: Path, tmp_path: Path) -> None:
    source = make_source(kind, tmp_path / "source")
    layouts = ["merge"] if git(source, "rev-list", "--merges", "main") else ["merge", "linear"]
    for layout in layouts:
        host = shutil.copytree(plain, tmp_path / layout)
        build, config = build_of(source, host, target__layout=layout)
        before = Repository(host).refs()
        build.run()
        result = check(build, config, refs_before=before, sample=None if layout == "merge" else 2)
        assert result.ok, "\n".join(result.lines())
        assert all(point.ok for point in result.points)
        assert result.find(7).counts["equal"] == int(git(source, "rev-list", "--count", "main"))


def test_an_import_inside_the_source_is_not_the_hosts(
    imported: tuple[Build, Config], plain: Path, tmp_path: Path
) -> None:
    """The source was itself a host once, of an import of the same name."""
    source = imported[0].host
    run_git(source, "update-ref", "refs/heads/main", BRANCH)
    build, config = build_of(source, shutil.copytree(plain, tmp_path / "outer"))
    build.run()
    result = check(build, config)
    assert result.ok, "\n".join(result.lines())
    assert len(result.imports) == 1
    assert result.find(1).counts["commits"] == 12 + 6 + 1


def test_a_submodule_inside_the_source_is_named(plain: Path, tmp_path: Path) -> None:
    source = make_source("gitlink", tmp_path / "source")
    build, config = build_of(source, shutil.copytree(plain, tmp_path / "host"))
    build.run()
    assert check(build, config).failed() == [11]


@pytest.mark.parametrize(("kind", "lost"), [("change_id", 4), ("mode_100664", 2)])
def test_what_the_named_engine_loses_is_expected(
    kind: str, lost: int, plain: Path, tmp_path: Path
) -> None:
    """The graft's images are wrong where the configuration names filter-repo."""
    source = make_source(kind, tmp_path / "source")
    build, config = build_of(
        source, shutil.copytree(plain, tmp_path / "host"), engine__use="filter-repo"
    )
    build.run()
    result = check(build, config, blame=False)
    assert 7 in result.failed()
    point = result.find(7)
    assert point.counts["ids"] - point.counts["equal"] == lost


# Where the source is.


def test_the_source_is_the_kept_originals(imported: tuple[Build, Config]) -> None:
    build, config = imported
    shutil.rmtree(build.source)
    assert check(build, config).ok


def test_the_source_is_fetched_when_nothing_else_has_it(plain: Path, tmp_path: Path) -> None:
    source = make_source("plain", tmp_path / "source")
    host = shutil.copytree(plain, tmp_path / "host")
    build, config = build_of(source, host, keep__originals=False)
    build.run()
    build.ref("refs/imports/frontend/original", None)
    run_git(host, "gc", "--quiet", "--prune=now")
    assert check(build, config).ok
    with pytest.raises(ProofFailed, match="the source has not"):
        check(build, config, fetch=False)
    shutil.rmtree(source)
    with pytest.raises(Refused, match="the source is not at hand"):
        check(build, config)


def test_another_repository_is_no_source(imported: tuple[Build, Config], tmp_path: Path) -> None:
    build, config = imported
    other = make_source("symlinks", tmp_path / "other")
    with pytest.raises(ProofFailed, match="which the source has not; name the right repository"):
        check(build, config, source=other)


def test_an_earlier_configuration_is_found_in_the_hosts_history(
    imported: tuple[Build, Config], tmp_path: Path
) -> None:
    """The pin went on in the file; the join still names the configuration it was made with."""
    build, config = imported
    assert config.path
    text = config.path.read_text()
    change(build.host, {"tools/frontend.toml": text.encode()}, "the configuration\n", ref=BRANCH)
    newer = text.replace("graft", "both").replace("https", "http")
    newer = newer.replace('qualify = "Inferact/vllm-frontend-rs"', 'qualify = "other/name"')
    change(build.host, {"tools/frontend.toml": newer.encode()}, "and a later one\n", ref=BRANCH)
    later = tmp_path / "frontend.toml"
    later.write_text(newer)
    assert check(build, configuration.load(later)).ok
    unknown = tmp_path / "unknown.toml"
    unknown.write_text(newer)
    result = check(build, configuration.load(unknown), blame=False)
    assert 7 in result.failed()
    assert "configuration" in result.find(7).detail


# What is refused.


def test_nothing_imported(imported: tuple[Build, Config]) -> None:
    build, config = imported
    with pytest.raises(Refused, match="no import frontend in main") as refused:
        verify.run(config, Repository(build.host), "main", build.source)
    assert refused.value.exit_code == 2
    with pytest.raises(Refused, match="no commit nowhere"):
        verify.run(config, Repository(build.host), "nowhere", build.source)


def test_a_shallow_clone_is_refused(imported: tuple[Build, Config], tmp_path: Path) -> None:
    build, config = imported
    clone = tmp_path / "clone"
    run_git(None, "clone", "--quiet", "--depth=1", "--bare", build.host.as_uri(), str(clone))
    with pytest.raises(Refused, match="is shallow; fetch with full depth"):
        verify.run(config, Repository(clone), "HEAD", build.source)


def test_what_is_no_repository_is_no_source(imported: tuple[Build, Config], tmp_path: Path) -> None:
    build, config = imported
    with pytest.raises(Refused, match="is not a git repository"):
        check(build, config, source=tmp_path / "nothing")


# What has no influence.


def test_configuration_caches_and_replacements_have_no_influence(
    imported: tuple[Build, Config],
) -> None:
    build, config = imported
    host = build.host
    listed = host / ".git" / "ignored"
    listed.write_text(tip(host, BRANCH + "^2") + "\n")
    for key, value in {
        "blame.ignoreRevsFile": str(listed),
        "log.follow": "true",
        "log.showSignature": "true",
        "diff.renames": "false",
        "core.commitGraph": "true",
        "core.quotePath": "true",
        "i18n.logOutputEncoding": "latin1",
    }.items():
        run_git(host, "config", key, value)
    run_git(host, "commit-graph", "write", "--reachable")
    graph = host / ".git" / "objects" / "info" / "commit-graph"
    graph.chmod(0o644)
    graph.write_bytes(graph.read_bytes()[:-200] + b"\0" * 200)
    assert check(build, config).ok
    build.ref(f"refs/replace/{tip(host, BRANCH + '^2')}", tip(host))
    assert check(build, config).failed() == [16]


def everything(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_nothing_is_changed(plain: Path, tmp_path: Path) -> None:
    """Also where a sync is merged again to be compared."""
    source = make_source("plain", tmp_path / "source")
    pin = git(source, "rev-parse", "main")
    host = shutil.copytree(plain, tmp_path / "host")
    build, config = build_of(source, host, source__pin=pin)
    first = git(source, "rev-parse", "main~3")
    build.run(first)
    change(host, {"rust/src/lib.rs": b"ours\n"}, "rust: ours\n", ref=BRANCH)
    image = build.make_images(pin)
    build.workshop.write(host)
    build.ref(BRANCH, build.join(image, pin, "sync", on=tip(host, BRANCH)))
    build.ref("refs/imports/frontend/original", pin)
    build.ref("refs/imports/frontend/tip", image)
    before = everything(host), everything(source)
    result = check(build, config, source=source)
    assert (everything(host), everything(source)) == before
    assert result.failed() == [9], "\n".join(result.lines())


def test_a_working_tree_of_the_host_may_be_linked(
    imported: tuple[Build, Config], tmp_path: Path
) -> None:
    build, config = imported
    run_git(build.host, "worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"), BRANCH)
    assert verify.run(config, Repository(tmp_path / "linked"), "HEAD").ok


# How much, and how it is shown.


def test_a_sample_says_so(imported: tuple[Build, Config]) -> None:
    build, config = imported
    point = check(build, config, sample=2).find(14)
    assert point.ok and "2 of 7 files drawn" in point.detail
    assert point.counts["logs"] == 4


def test_left_out_on_request_is_not_called_proved(imported: tuple[Build, Config]) -> None:
    build, config = imported
    result = check(build, config, blame=False)
    assert result.find(14).ok is None
    assert "left out on request" in result.find(14).detail
    assert result.exit_code == 0


def test_the_sources_refs_are_compared(imported: tuple[Build, Config]) -> None:
    build, config = imported
    before = Repository(build.source).refs()
    options = {"source": build.source, "source_refs_before": before, "blame": False}
    assert check(build, config, **options).ok
    force_back(build.source, 1)
    assert check(build, config, **options).failed() == [16]


def test_the_command_line(
    imported: tuple[Build, Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build, config = imported
    listing = tmp_path / "refs"
    listing.write_text("")
    words = ["verify", str(config.path), "--host", str(build.host), "--ref", BRANCH]
    assert cli.main([*words, "--source", str(build.source)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[-1] == "proved" and len([line for line in shown if " ok " in line]) == 16
    assert cli.main([*words, "--json", "--no-blame", "--refs-before", str(listing)]) == 1
    data = json.loads(capsys.readouterr().out)
    assert data["exit"] == 1
    failed = [point["number"] for point in data["result"]["points"] if point["ok"] is False]
    assert failed == [16]
    assert cli.main([*words[:-1], "main"]) == 2
    assert "no import frontend" in capsys.readouterr().err
    git_listing = git(build.host, "for-each-ref")
    listing.write_text(git_listing + "\n")
    assert cli.main([*words, "--no-blame", "--no-fetch", "--refs-before", str(listing)]) == 0


def test_a_squash_points_to_rescue(imported: tuple[Build, Config]) -> None:
    build, config = imported
    draft = build.copy()
    draft.parents = draft.parents[:1]
    oid = draft.write(build.workshop)
    build.workshop.write(build.host)
    build.ref(BRANCH, oid)
    result = check(build, config)
    assert result.exit_code == 1 and result.squashed
    assert "history-import rescue" in "\n".join(result.lines())
    assert [point.ok for point in result.points] == [False] + [None] * 15


def test_a_clone_needs_the_refs_of_the_import(tmp_path: Path) -> None:
    """As the guide has CI and reviewers do it."""
    case = world.landed(tmp_path)
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--branch", "main", str(case.host), str(clone))
    words = ["verify", str(case.config), "--host", str(clone), "--ref", "main", "--no-blame"]
    words += ["--source", str(case.source)]
    before = kit.run(*words)
    assert (before.code, "refs/imports/frontend/original is missing" in before.out) == (1, True)
    git(clone, "fetch", "--quiet", "origin", "refs/imports/*:refs/imports/*")
    assert kit.run(*words).code == 0


# Random graphs.

FLAWS = [2, 3, 5, 6, 7]


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """Up to seven commits on any earlier ones; all are below the last."""
    story, commits = Story(), list[str]()
    words = st.sampled_from([b"#1", b"closes #2", b"x", b"\n", b"\n\n", b"\xfc", b" "])
    for number in range(draw(st.integers(2, 7))):
        count = min(number, draw(st.integers(0, 3)))
        parents = draw(st.permutations(commits))[:count]
        if number and draw(st.booleans()):
            earlier = draw(st.sampled_from(commits))[: draw(st.integers(7, 40))].encode()
        else:
            earlier = b""
        name = b"f%d" % draw(st.integers(0, 2))
        story.put(name, b"%d\n" % draw(st.integers(0, 3)))
        text = b"".join([b"c%d " % number, earlier, *draw(st.lists(words, max_size=4))])
        commits.append(story.commit(text, parents=parents))
    story.commit(b"the last\n", parents=commits)
    return story


@settings(max_examples=examples(6), suppress_health_check=list(HealthCheck))
@given(story=stories(), data=st.data())
def test_any_graph_passes_and_any_flaw_of_it_is_named(
    story: Story, data: st.DataObject, plain: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("graph")
    source = story.source(folder / "source")
    build, config = build_of(source, shutil.copytree(plain, folder / "right"))
    build.run()
    result = check(build, config, source=source, blame=False)
    assert result.ok, "\n".join(result.lines())
    point = data.draw(st.sampled_from(sorted(FLAWS)))
    spoilt, config = build_of(source, shutil.copytree(plain, folder / "wrong"))
    spoil(spoilt, point, f"c{data.draw(st.integers(0, len(build.images) - 2))} ")
    failed = check(spoilt, config, source=source, blame=False).failed()
    assert point in failed and 7 in failed
    shutil.rmtree(folder)


def spoil(build: Build, point: int, subject: str) -> None:
    """One image is wrong in what the point is about, and everything after it stands on it."""

    def change(draft: Draft) -> None:
        if point == 2:  # without a parent, or where there is none with the host's commit
            draft.parents = draft.parents[1:] or [tip(build.host)]
        elif point == 3:
            other = build.tree({b"other": build.blob(b"other\n")})
            draft.tree = build.tree({b"rust": (b"40000", other)})
        elif point == 5:
            draft.author += b"0"
        elif point == 6:
            draft.message += b"."
        else:
            draft.headers.append((b"odd", b"1"))

    build.on_image[subject] = change
    build.run()
