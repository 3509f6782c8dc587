# SPDX-License-Identifier: Apache-2.0
"""Two engines give the same ids, or the first commit and the reason why not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.history_import import closure, config, engines, filter_repo, packs, trees
from tools.history_import.engines import Rewritten
from tools.history_import.errors import EngineFailed, Refused
from tools.history_import.git import Repository, TreeEntry, parse_commit
from tools.history_import.scratch import Scratch

from . import kit
from .generator.sources import QUICK_SOURCES

# What git-filter-repo does to these is the reason for having a second engine.
DIFFERENT = {
    "change_id": "drops the extended header change-id",
    "mode_100664": "from 100664 to 100644",
    "no_author_name": "cannot read 'author <ghost@example.org>",
}


def scratch(folder: Path, kind: str, **values: str) -> tuple[config.Config, Scratch]:
    case = kit.case(folder, source_kind=kind, **values)
    parsed = config.load(case.config)
    place = Scratch(Repository(case.host), parsed)
    place.prepare()
    place.fetch()
    return parsed, place


def rewrite(folder: Path, kind: str, **values: str) -> tuple[Scratch, closure.Closure, Rewritten]:
    parsed, place = scratch(folder, kind, **values)
    found = closure.read(place.source, parsed.source.pin)
    return place, found, engines.rewrite(parsed, place, found)


@pytest.mark.parametrize("kind", [kind for kind in QUICK_SOURCES if kind not in DIFFERENT])
def test_both_engines_agree(kind: str, tmp_path: Path) -> None:
    _, found, made = rewrite(
        tmp_path, kind, target__prefix="third party/ru\N{LATIN SMALL LETTER U WITH DIAERESIS}st"
    )
    assert made.difference is None
    assert made.engines == ("filter-repo 2.47.0", "graft 1")
    assert list(made.images) == found.oids


@pytest.mark.parametrize("kind", DIFFERENT)
def test_a_difference_is_refused_with_its_reason(kind: str, tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        rewrite(tmp_path, kind)
    assert DIFFERENT[kind] in str(refused.value)
    assert 'engine.use = "graft"' in str(refused.value) or 'engine.use to "graft"' in str(
        refused.value
    )


@pytest.mark.parametrize("kind", DIFFERENT)
def test_one_engine_by_name_reports_the_difference(kind: str, tmp_path: Path) -> None:
    _, found, made = rewrite(tmp_path, kind, engine__use="graft")
    assert made.engines == ("graft 1",)
    assert made.difference and DIFFERENT[kind] in made.difference.line
    assert made.difference.commit in found.position


@pytest.mark.parametrize("kind", ["change_id", "mode_100664"])
def test_the_stock_tool_by_name(kind: str, tmp_path: Path) -> None:
    _, _, made = rewrite(tmp_path, kind, engine__use="filter-repo")
    assert made.engines == ("filter-repo 2.47.0",)
    assert made.difference and made.images[made.difference.commit] == made.difference.filter_repo
    with made.objects.objects() as objects:
        assert all(objects.commit(image) for image in made.images.values())


def test_the_stock_tool_by_name_where_it_cannot(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match="cannot read"):
        rewrite(tmp_path, "no_author_name", engine__use="filter-repo")


@pytest.mark.parametrize("kind", ["odd_zone", "latin1", "crlf_and_empty", "merges", "signatures"])
def test_an_image_is_its_source_but_for_what_must_change(kind: str, tmp_path: Path) -> None:
    place, found, made = rewrite(tmp_path, kind, messages__qualify=None)  # type: ignore[arg-type]
    with made.objects.objects() as objects:
        for oid, image in made.images.items():
            old, new = found.commit(oid), objects.commit(image)
            dropped = {b"tree", b"parent", b"gpgsig", b"gpgsig-sha256", b"mergetag"}
            assert [h for h in old.headers if h[0] not in dropped] == [
                h for h in new.headers if h[0] not in dropped
            ]
            assert new.parents == [made.images[parent] for parent in old.parents]
            assert b"gpgsig" not in dict(new.headers) and b"mergetag" not in dict(new.headers)
            wrapped = trees.lookup(objects, new.tree, b"rust")
            assert (wrapped.oid if wrapped else trees.EMPTY_TREE) == old.tree
            assert new.message.replace(b"upstream ", b"") == old.message or kind == "signatures"
    assert place.source.resolve("refs/heads/source")


def test_every_object_is_sound(tmp_path: Path) -> None:
    _, _, made = rewrite(tmp_path, "merges")
    made.objects.git("fsck", "--full", "--strict", "--connectivity-only", made.tip)
    made.objects.git("fsck", "--full", made.tip)


def test_hashes_are_translated_to_images(tmp_path: Path) -> None:
    _, found, made = rewrite(tmp_path, "references")
    translated = [oid for oid, rewrite in made.rewrites.items() if rewrite.translated]
    assert translated
    known = set(made.images.values())
    with made.objects.objects() as objects:
        for oid in translated:
            text = objects.commit(made.images[oid]).message.decode()
            assert any(word.strip(".,()") in image for word in text.split() for image in known)
            assert all(full not in text for full in found.oids)


def test_commits_that_differ_only_in_a_signature_are_refused(tmp_path: Path) -> None:
    parsed, place = scratch(tmp_path, "signatures")
    found = closure.read(place.source, parsed.source.pin)
    raw = next(data for data in found.raw if b"gpgsig" in data)
    twin = engines.graft.SIGNATURES.sub(b"", raw)
    both = [packs.oid_of(b"commit", raw), packs.oid_of(b"commit", twin)]
    twins = closure.Closure(both, [raw, twin])
    with pytest.raises(Refused, match="differ only in a signature"):
        engines.run_graft(parsed, twins, {}, engines.init_objects(place, "graft.git"))


def test_an_unmarked_repository_is_never_rewritten(tmp_path: Path) -> None:
    """The driver, started where no scratch repository is, does nothing."""
    host = kit.host("plain", tmp_path / "host")
    before = kit.state(host)
    words = [sys.executable, "-m", "tools.history_import.filter_repo_driver"]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        words,
        cwd=host,
        env={"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin:/usr/local/bin"},
        input=b"{}",
        capture_output=True,
        check=False,
    )
    assert done.returncode and b"not a scratch repository" in done.stderr
    assert kit.state(host) == before


def test_the_place_must_be_the_configured_source(tmp_path: Path) -> None:
    parsed, place = scratch(tmp_path, "plain")
    found = closure.read(place.source, parsed.source.pin)
    engine = filter_repo.FilterRepo(parsed, place, found)
    engine._make()
    engine.repository.git("config", "remote.origin.url", "/elsewhere")
    with pytest.raises(Refused, match="not the scratch repository"):
        engine._check_place()


def test_a_pruned_commit_is_refused(tmp_path: Path) -> None:
    """It is told not to prune; its own map is what shows that it did not."""
    parsed, place = scratch(tmp_path, "plain")
    found = closure.read(place.source, parsed.source.pin)
    engine = filter_repo.FilterRepo(parsed, place, found)
    engine._make()
    report = engine.repository.path / "filter-repo"
    report.mkdir()
    lines = [f"{oid} {oid}" for oid in found.oids[1:]] + [f"{found.oids[0]} {'0' * 40}"]
    (report / "commit-map").write_text("\n".join(["old new", *lines]) + "\n")
    with pytest.raises(Refused, match=f"pruned 1 commits, the first is {found.oids[0]}"):
        engine._read_map()


def test_an_interrupted_fetch_is_done_again(tmp_path: Path) -> None:
    parsed, place = scratch(tmp_path, "plain")
    shutil.rmtree(place.source.path / "objects" / "pack")
    (place.source.path / "objects" / "pack").mkdir()
    place.source.git("update-ref", "-d", "refs/heads/source")
    place.fetch()
    assert len(closure.read(place.source, parsed.source.pin)) == 12


def test_ancestry_decides_which_commit_a_text_names() -> None:
    """Two commits with one prefix: only the one before the message's commit counts."""
    oids = ["aaaaaaa1" + "0" * 32, "bbbbbbb1" + "0" * 32, "aaaaaaa2" + "0" * 32]
    raw = [
        b"tree x\nauthor",
        b"tree x\nparent %s\n" % oids[0].encode(),
        b"tree x\nparent %s\n" % oids[1].encode(),
    ]
    made = closure.Closure(oids, raw)
    assert made.named(b"aaaaaaa", 1) == oids[0]
    assert made.named(b"aaaaaaa", 0) is None
    assert made.named(b"aaaaaaa", 2) == oids[0]
    assert made.named(b"aaaaaaa2", 2) is None  # itself is no ancestor
    assert made.ancestors_of(oids[1]) == oids[:2]


NAMES = st.sampled_from([b"a", b"a.b", b"a0", b"b", b"dir", b"dir.txt", b"caf\xe9", b"z"])
BLOB = packs.oid_of(b"blob", b"")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    made = Repository(tmp_path_factory.mktemp("trees"))
    made.git("init", "--quiet", "--bare")
    made.git("hash-object", "-w", "--stdin")
    return made


@settings(max_examples=25)
@given(st.sets(st.lists(NAMES, min_size=1, max_size=3).map(b"/".join), max_size=6), NAMES)
def test_splicing_is_what_an_index_would_do(
    repository: Repository, files: set[bytes], name: bytes
) -> None:
    paths = {p for p in files if not any(other.startswith(p + b"/") for other in files)}
    paths = {p for p in paths if not p.startswith(name + b"/") and p != name}

    def by_index(chosen: set[bytes]) -> str:
        lines = b"".join(b"100644 %s\t%s\0" % (BLOB.encode(), path) for path in chosen)
        index = {"GIT_INDEX_FILE": str(repository.path / "index")}
        (repository.path / "index").unlink(missing_ok=True)
        repository.git("update-index", "-z", "--index-info", input=lines, env=index)
        return repository.git("write-tree", env=index).decode().strip()

    root, inner = by_index(paths), by_index({b"x", b"y/z"})
    target = name + b"/inside"
    added = trees.splice(repository, root, target, (trees.TREE, inner))
    assert added == by_index(paths | {target + b"/x", target + b"/y/z"})
    assert trees.splice(repository, added, target, None) == root


def test_odd_modes_survive_splicing(repository: Repository) -> None:
    root = trees.write(repository, [TreeEntry(b"100664", b"odd", BLOB)])
    made = trees.splice(repository, root, b"rust/x", (b"100644", BLOB))
    with repository.objects() as objects:
        assert objects.tree(made)[0] == TreeEntry(b"100664", b"odd", BLOB)


def test_signature_headers_are_cut_with_their_lines() -> None:
    data = (
        b"tree t\nauthor a\ngpgsig -----\n line\n \n end\nencoding x\nmergetag object\n type\n\nm"
    )
    left = engines.graft.SIGNATURES.sub(b"", data)
    assert parse_commit(left).headers == [(b"tree", b"t"), (b"author", b"a"), (b"encoding", b"x")]
