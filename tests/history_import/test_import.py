# SPDX-License-Identifier: Apache-2.0
"""The import: every source, both layouts, submodules; what is new and that nothing else is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tools.history_import import config, imported, importing, record
from tools.history_import.git import Repository

from . import kit
from .generator import change, git, make_source, tip, write_config
from .generator.sources import QUICK_SOURCES

LINEAR = [
    kind
    for kind in QUICK_SOURCES
    if kind not in {"merges", "three_roots", "octopus", "empty_commits", "signatures"}
]
ODD = {"change_id", "mode_100664", "no_author_name"}
IMPORT_REFS = {
    "refs/heads/import/frontend",
    "refs/imports/frontend/tip",
    "refs/imports/frontend/original",
    "refs/imports/frontend/map",
    "refs/backup/history-import/frontend/main",
}


def engine(kind: str) -> dict[str, str]:
    return {"engine__use": "graft"} if kind in ODD else {}


def refs(repository: Path) -> set[str]:
    return set(git(repository, "for-each-ref", "--format=%(refname)").splitlines())


@pytest.mark.parametrize("kind", QUICK_SOURCES)
def test_every_source(kind: str, tmp_path: Path) -> None:
    case = kit.case(tmp_path, source_kind=kind, **engine(kind))
    before, source = kit.state(case.host), kit.state(case.source)
    ran = case.run("import")
    assert ran.code == 0, ran.err
    after = kit.state(case.host)
    assert kit.state(case.source) == source
    assert refs(case.host) == {"refs/heads/main"} | IMPORT_REFS
    assert {k: after[k] for k in ("head", "config", "index", "files")} == {
        k: before[k] for k in ("head", "config", "index", "files")
    }
    assert case.git("rev-parse", "import/frontend^1") == tip(case.host)
    whole = case.git("rev-parse", "import/frontend:rust")
    assert whole == git(case.source, "rev-parse", "main^{tree}")
    changed = case.git("diff", "--name-only", "-z", "main", "import/frontend").split("\0")
    outside = {path for path in changed if path and not path.startswith("rust/")}
    assert outside <= {".git-blame-ignore-revs"}
    case.git("fsck", "--full", "--connectivity-only")


@pytest.mark.parametrize("kind", LINEAR)
def test_every_line_stacked_on_the_host(kind: str, tmp_path: Path) -> None:
    case = kit.case(tmp_path, source_kind=kind, target__layout="linear", **engine(kind))
    ran = case.run("import")
    assert ran.code == 0, ran.err
    assert case.git("rev-list", "--merges", "import/frontend") == ""
    people = "--format=%an|%ae|%ad|%cn|%ce|%cd"
    raw = "--date=raw"
    stacked = case.git("log", "--reverse", people, raw, "main..import/frontend~1")
    assert stacked == git(case.source, "log", "--reverse", people, raw, "main")
    top = case.git("rev-parse", "import/frontend^{tree}", "import/frontend~1^{tree}").split()
    assert top[0] == top[1]
    assert case.git("rev-parse", "refs/imports/frontend/tip", "import/frontend~1").split()[0]


@pytest.mark.parametrize("kind", ["plain", "change_id", "mode_100664"])
def test_what_the_stock_tool_makes(kind: str, tmp_path: Path) -> None:
    case = kit.case(tmp_path, source_kind=kind, engine__use="filter-repo")
    ran = case.run("import")
    assert ran.code == 0, ran.err
    case.git("fsck", "--full", "--connectivity-only")
    assert "filter-repo 2.47.0" in case.git("log", "-1", "--format=%B", "import/frontend")


def test_again_there_is_nothing_to_do(tmp_path: Path) -> None:
    case = kit.case(tmp_path)
    assert case.run("import").code == 0
    before = kit.state(case.host)
    again = case.run("import")
    assert again.code == 0 and again.out.startswith("nothing to do: import/frontend has frontend")
    assert kit.state(case.host) == before
    git(case.host, "checkout", "--quiet", "import/frontend")
    assert case.run("import").code == 0


def test_two_hosts_get_the_same_images(tmp_path: Path) -> None:
    tips = []
    for name in ("one", "other"):
        case = kit.case(tmp_path / name, source_kind="octopus")
        assert case.run("import").code == 0
        tips.append(case.git("rev-parse", "refs/imports/frontend/tip", "import/frontend"))
    assert tips[0] == tips[1]


def test_after_it_landed_there_is_nothing_to_do_either(tmp_path: Path) -> None:
    case = kit.case(tmp_path)
    assert case.run("import").code == 0
    change(case.host, {"x": b"1"}, "meanwhile")
    tree = case.git("merge-tree", "--write-tree", "main", "import/frontend")
    words = ["commit-tree", tree, "-p", "main", "-p", "import/frontend", "-m", "Merge pull request"]
    case.git("update-ref", "refs/heads/main", case.git(*words))
    case.git("branch", "-D", "import/frontend")
    git(case.host, "reset", "--quiet", "--hard")
    assert case.run("import").out.startswith("nothing to do: main has frontend")


def test_another_pin_is_a_matter_for_sync(tmp_path: Path) -> None:
    behind = git(kit.source("plain"), "rev-parse", "main~3")
    case = kit.case(tmp_path, source__pin=behind)
    assert case.run("import").code == 0
    write_config(case.host, case.source)
    before = kit.state(case.host)
    ran = case.run("import")
    assert ran.code == 2 and "history-import sync" in ran.err
    assert kit.state(case.host) == before


@pytest.mark.parametrize("kind", ["submodule", "submodule_only"])
def test_a_submodule_is_switched_and_then_synced(kind: str, tmp_path: Path) -> None:
    case = kit.case(tmp_path, kind)
    pinned = case.git("rev-parse", "main:rust")
    ran = case.run("import")
    assert ran.code == 0, ran.err
    assert ran.out.startswith(f"1/2 switch at the pinned submodule commit {pinned[:8]}: 8 commits")
    assert "\n2/2 sync to " in ran.out and "git submodule deinit -f rust" in ran.out
    switch, sync = "import/frontend^1", "import/frontend"
    assert case.git("rev-parse", f"{switch}:rust") == git(
        case.source, "rev-parse", f"{pinned}^{{tree}}"
    )
    assert case.git("rev-parse", f"{sync}:rust") == git(case.source, "rev-parse", "main^{tree}")
    assert case.git("rev-parse", f"{switch}^1") == tip(case.host)
    changed = case.git("diff", "--name-only", "main", switch, "--", ":!rust").splitlines()
    assert changed == [".gitmodules"]


def test_other_submodules_keep_their_sections(tmp_path: Path) -> None:
    case = kit.case(tmp_path, "submodule")
    before = case.git("show", "main:.gitmodules")
    assert case.run("import").code == 0
    left = case.git("show", "import/frontend:.gitmodules")
    assert "path = rust" not in left and "third_party/dep" in left and "third_party/last" in left
    assert set(left.splitlines()) < set(before.splitlines())


def test_the_last_section_takes_the_file_with_it(tmp_path: Path) -> None:
    case = kit.case(tmp_path, "submodule_only")
    assert case.run("import").code == 0
    assert ".gitmodules" not in case.git("ls-tree", "--name-only", "import/frontend").split()


def test_a_submodule_that_is_checked_out_stays_so(tmp_path: Path) -> None:
    """The maintainer's own clone: the import is a branch, the working tree is nobody's business."""
    case = kit.case(tmp_path, "submodule_only")
    allow = ["-c", "protocol.file.allow=always"]
    git(case.host, *allow, "submodule", "update", "--quiet", "--init")
    before = kit.state(case.host)
    ran = case.run("import")
    assert ran.code == 0, ran.err
    after = kit.state(case.host)
    assert {k: after[k] for k in ("head", "config", "files")} == {
        k: before[k] for k in ("head", "config", "files")
    }
    assert git(case.host / "rust", "status", "--porcelain") == ""


def test_edits_in_a_submodule_that_is_checked_out_are_seen(tmp_path: Path) -> None:
    case = kit.case(tmp_path, "submodule_only")
    git(case.host, "-c", "protocol.file.allow=always", "submodule", "update", "--quiet", "--init")
    (case.host / "rust" / "README.md").write_text("edited\n")
    ran = case.run("import")
    assert ran.code == 2 and "uncommitted changes, such as rust" in ran.err


def test_the_list_for_blame_arrives_translated(tmp_path: Path) -> None:
    case = kit.case(tmp_path, source_kind="ignore_revs")
    assert case.run("import").code == 0
    listed = case.git("show", "import/frontend:.git-blame-ignore-revs").splitlines()
    ids = [line[:40] for line in listed if line and not line.startswith("#")]
    images = case.git("rev-list", "refs/imports/frontend/tip").split()
    assert ids and set(ids) <= set(images)
    assert case.git("rev-parse", "import/frontend:rust/.git-blame-ignore-revs") == git(
        case.source, "rev-parse", "main:.git-blame-ignore-revs"
    )


def test_the_host_s_own_list_stays(tmp_path: Path) -> None:
    case = kit.case(tmp_path, "own_ignore_revs", "ignore_revs")
    assert case.run("import").code == 0
    name = ".git-blame-ignore-revs"
    assert case.git("rev-parse", f"import/frontend:{name}") == case.git("rev-parse", f"main:{name}")


def test_tags_on_request_become_import_refs(tmp_path: Path) -> None:
    tags = git(kit.source("tags"), "tag", "--merged", "main").split()
    case = kit.case(tmp_path, source_kind="tags", source__tags=tags)
    ran = case.run("import")
    assert ran.code == 0, ran.err
    made = refs(case.host)
    assert {f"refs/imports/frontend/tags/{tag}" for tag in tags} <= made
    assert not [name for name in made if name.startswith("refs/tags/")]
    for tag in tags:
        old = git(case.source, "rev-parse", f"{tag}^{{tree}}")
        assert case.git("rev-parse", f"refs/imports/frontend/tags/{tag}:rust") == old


def test_originals_are_kept_only_on_request(tmp_path: Path) -> None:
    case = kit.case(tmp_path, keep__originals=False)
    assert case.run("import").code == 0
    assert "refs/imports/frontend/original" not in refs(case.host)


def test_from_a_linked_working_tree(tmp_path: Path) -> None:
    case = kit.case(tmp_path)
    git(case.host, "worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"))
    ran = kit.run("import", str(case.config), "--host", str(tmp_path / "linked"))
    assert ran.code == 0, ran.err
    assert refs(case.host) >= IMPORT_REFS


def test_the_join_says_what_it_is(tmp_path: Path) -> None:
    case = kit.case(tmp_path)
    assert case.run("import").code == 0
    found = record.find(Repository(case.host), "refs/heads/import/frontend", "frontend")
    assert [one.kind for one in found] == ["import"]
    assert found[0].source_commit == tip(case.source) and found[0].commits == 12
    assert found[0].engines == ("filter-repo 2.47.0", "graft 1")
    assert case.git("log", "-1", "--format=%an <%ae>", "import/frontend") == (
        "Mona Maintainer <mona@example.org>"
    )


def test_a_claim_without_the_parent_is_no_join(tmp_path: Path) -> None:
    """A message anyone can write; what it joins cannot be forged with it."""
    case = kit.case(tmp_path)
    assert case.run("import").code == 0
    message = case.git("log", "-1", "--format=%B", "import/frontend")
    change(case.host, {"rust/x": b"1"}, message)
    assert record.find(Repository(case.host), "refs/heads/main", "frontend") == []


def test_a_branch_of_the_same_name_that_is_something_else(tmp_path: Path) -> None:
    case = kit.case(tmp_path)
    case.git("branch", "import/frontend", "main~1")
    before = kit.state(case.host)
    ran = case.run("import")
    assert ran.code == 2 and "git branch -D import/frontend" in ran.err
    assert kit.state(case.host) == before


def test_text_says_undo_and_next(tmp_path: Path) -> None:
    case = kit.case(tmp_path)
    said = case.run("import").out
    assert f"undo    history-import rollback {case.config}" in said
    assert "MERGE COMMIT (not squash, not rebase)" in said
    assert "refs/imports/frontend/tip as good" in said


def test_blame_is_sampled_unless_every_line_is_asked_for(tmp_path: Path) -> None:
    case = kit.case(tmp_path / "one", source_kind="merges")
    files = {f"many/{n}.txt": b"%d\n" % n for n in range(12)}
    source = tmp_path / "source"
    shutil.copytree(case.source, source)
    change(source, dict(files), "more files than are sampled")
    write_config(case.host, source)
    drawn = case.run("import").out
    assert "blame and log: 8 of " in drawn
    other = kit.case(tmp_path / "other", source_kind="merges")
    write_config(other.host, source)
    whole = other.run("import", "--every-line")
    assert whole.code == 0 and "blame and log:" not in whole.out


def test_a_large_history_leaves_blame_to_verify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "LARGE", 3)
    assert (
        "blame and log are left to verify: over 3 commits" in kit.case(tmp_path).run("import").out
    )


def test_as_data(tmp_path: Path) -> None:
    case = kit.case(tmp_path, "submodule")
    result = case.run("import", "--json").data["result"]
    assert [one["kind"] for one in result["joins"]] == ["switch", "sync"]
    assert {one["name"] for one in result["refs"]} == IMPORT_REFS


def test_replace_refs_and_grafts_do_not_mislead(tmp_path: Path) -> None:
    """Both would show git another history than the one that is stored."""
    source = make_source("plain", tmp_path / "source")
    git(source, "replace", "--graft", "main~3")
    host = kit.host("plain", tmp_path / "host")
    case = kit.Case(host, source, write_config(host, source))
    (host / ".git" / "info").mkdir(exist_ok=True)
    (host / ".git" / "info" / "grafts").write_text(tip(host) + "\n")
    assert case.run("import").code == 0
    (host / ".git" / "info" / "grafts").unlink()
    assert case.git("rev-list", "--count", "refs/imports/frontend/tip") == "12"
    assert int(case.git("rev-list", "--count", "import/frontend")) == 13 + 6


def test_the_scratch_is_gone_and_what_others_left_too(tmp_path: Path) -> None:
    case = kit.case(tmp_path)
    home = case.host / ".git" / "history-import" / "frontend"
    (home / "old-run").mkdir(parents=True)
    assert case.run("plan").code == 0
    assert not (home / "old-run").exists()
    assert case.run("import").code == 0
    assert os.listdir(home) == ["plan"]


def test_nothing_found_is_nothing_done(tmp_path: Path) -> None:
    case = kit.case(tmp_path)
    assert imported.find(config.load(case.config), Repository(case.host)) is None
