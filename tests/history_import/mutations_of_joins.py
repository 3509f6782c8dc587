# SPDX-License-Identifier: Apache-2.0
"""Broken joins: the host's line, submodules, several imports.

Owns these mutations; the points beside each must say so, the first by name.
"""

from __future__ import annotations

from .generator import change, git, tip
from .generator.objects import run_git
from .mutation import (
    BRANCH,
    broken,
    gitmodules,
    in_join,
    replaced,
    second,
)
from .third_writer import PERSON, PREFIX, Build, Draft, read

# The join.


@broken(8, says="imported side")
def host_tip_not_first_parent(build: Build) -> None:
    build.on_join = lambda d: d.parents.reverse()
    build.run()


@broken(8)
def joined_to_another_line_of_the_host(build: Build) -> None:
    """The former tip's own last commit is not in the result."""
    build.run()
    image = read(build.host, tip(build.host, BRANCH)).parents[1]
    older = git(build.host, "rev-parse", "main~1")
    build.ref(BRANCH, build.join(image, tip(build.source), on=older))


@broken(8, says="'extra.txt'")
def extra_change_in_the_merge(build: Build) -> None:
    in_join(build, b"extra.txt", build.blob(b"extra\n"))


@broken(8, says="'LICENSE'")
def file_of_the_host_dropped_in_the_merge(build: Build) -> None:
    in_join(build, b"LICENSE", None)


@broken(8, linear=True)
def record_changes_the_tree(build: Build) -> None:
    in_join(build, b"extra.txt", build.blob(b"extra\n"))


@broken(9, 14)
def file_edited_in_the_merge(build: Build) -> None:
    in_join(build, b"rust/code.rs", build.blob(b"edited\n"))


@broken(9)
def file_added_below_the_prefix_in_the_merge(build: Build) -> None:
    in_join(build, b"rust/added.rs", build.blob(b"added\n"))


@broken(9)
def host_content_at_the_prefix_replaced(build: Build) -> None:
    change(build.host, {"rust/own.rs": b"fn own() {}\n"}, "rust: our own\n")
    build.run()


@broken(9, says="landing")
def landed_by_a_merge_that_keeps_nothing(build: Build) -> None:
    """As `git merge -s ours` does, or a conflict resolved for the host."""
    joined, host = build.run(), tip(build.host)
    draft = Draft(read(build.host, host).tree, [host, joined], PERSON, PERSON, [], b"land\n")
    oid = draft.write(build.workshop)
    build.workshop.write(build.host)
    build.ref(BRANCH, oid)


# Submodules.


@broken(11, says="gitlink")
def gitlink_left(build: Build) -> None:
    """Beside the tree, below it, as a merge by hand leaves it."""
    build.run()
    joined = tip(build.host, BRANCH)
    root = replaced(build, read(build.host, joined).tree, PREFIX + b"/dep", (b"160000", "2" * 40))
    draft = Draft(root, [joined], PERSON, PERSON, [], b"a submodule below\n")
    oid = draft.write(build.workshop)
    build.workshop.write(build.host)
    build.ref(BRANCH, oid)


@broken(9, 11, 14, says="below the prefix")
def gitlink_left_in_place_of_the_tree(build: Build) -> None:
    in_join(build, PREFIX, (b"160000", "2" * 40))


@broken(11, says=".gitmodules still has")
def gitmodules_entry_left(build: Build) -> None:
    gitmodules(build, ("frontend", "rust"), ("dep", "third_party/dep"))
    build.run()


@broken(8, says="'.gitmodules'")
def another_submodules_entry_lost(build: Build) -> None:
    gitmodules(build, ("frontend", "rust"), ("dep", "third_party/dep"))
    in_join(build, b".gitmodules", None)


@broken(9, says="the submodule was at")
def switch_at_another_commit(build: Build) -> None:
    commit = git(build.source, "rev-parse", "main~1")
    run_git(build.host, "update-index", "--add", "--cacheinfo", f"160000,{commit},rust")
    tree = git(build.host, "write-tree")
    draft = Draft(tree, [tip(build.host)], PERSON, PERSON, [], b"a submodule\n")
    oid = draft.write(build.workshop)
    build.workshop.write(build.host)
    build.ref("refs/heads/main", oid)
    build.run()


# Several imports.


@broken(10, source__pin="refs/heads/forced", says="no ancestor")
def earlier_import_is_no_ancestor(build: Build) -> None:
    build.run()
    before = tip(build.host, BRANCH)
    image = build.make_images(tip(build.source, "refs/heads/forced"))
    build.workshop.write(build.host)
    merged = run_git(build.host, "merge-tree", "--write-tree", before, image).decode().strip()
    second(build, "refs/heads/forced", tree=merged)


@broken(9, source__pin="refs/heads/later", says="is not what git merges")
def sync_is_not_what_git_merges(build: Build) -> None:
    """The host's own edit below the prefix is lost by the sync."""
    build.run()
    change(build.host, {"rust/run.sh": b"#!/bin/bash\n"}, "rust: bash\n", ref=BRANCH)
    second(build, "refs/heads/later")
