# SPDX-License-Identifier: Apache-2.0
"""Imports that are broken in one way each, and the points that must say so.

Owns the table. Each mutation is given a build that would be right, and spoils one thing of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .generator import change, git, tip
from .generator.objects import run_git
from .generator.odd_bytes import SSH
from .third_writer import PERSON, PREFIX, Build, Draft, entries, read

BRANCH = "refs/heads/import/frontend"
Spoil = Callable[[Build], None]


@dataclass(frozen=True)
class Mutation:
    name: str
    point: int  # the one that names it
    others: frozenset[int]  # what follows from it
    spoil: Spoil
    linear: bool = False
    host: str = "plain"
    config: tuple[tuple[str, object], ...] = ()
    says: str = ""


MUTATIONS: list[Mutation] = []


def broken(
    point: int,
    *others: int,
    linear: bool = False,
    host: str = "plain",
    says: str = "",
    **config: object,
) -> Callable[[Spoil], Spoil]:
    def add(spoil: Spoil) -> Spoil:
        keys = tuple(config.items())
        made = Mutation(spoil.__name__, point, frozenset(others), spoil, linear, host, keys, says)
        MUTATIONS.append(made)
        return spoil

    return add


def each(subject: str, change: Callable[[Draft], None]) -> Spoil:
    def spoil(build: Build) -> None:
        build.on_image[subject] = change
        build.run()

    return spoil


def replaced(build: Build, root: str, path: bytes, entry: tuple[bytes, str] | None) -> str:
    """A new root tree; `path` has at most one folder on the way."""
    build.workshop.write(build.host)
    content = entries(build.host, root)
    folder, slash, name = path.partition(b"/")
    if slash:
        inside = entries(build.host, content[folder][1])
        inside.pop(name, None)
        content[folder] = (b"40000", build.tree(inside | ({name: entry} if entry else {})))
    else:
        content.pop(folder, None)
        content |= {folder: entry} if entry else {}
    return build.tree(content)


def in_tree(build: Build, subject: str, path: bytes, entry: tuple[bytes, str] | None) -> None:
    def change(draft: Draft) -> None:
        draft.tree = replaced(build, draft.tree, path, entry)

    build.on_image[subject] = change
    build.run()


def in_join(build: Build, path: bytes, entry: tuple[bytes, str] | None) -> None:
    def change(draft: Draft) -> None:
        draft.tree = replaced(build, draft.tree, path, entry)

    build.on_join = change
    build.run()


# People.


@broken(5, 7, says="1773303601")
def author_a_second_off(build: Build) -> None:
    each("base", lambda d: setattr(d, "author", d.author.replace(b"3600 ", b"3601 ")))(build)


@broken(5, 7)
def authors_zone_changed(build: Build) -> None:
    each("list", lambda d: setattr(d, "author", d.author.replace(b"+0530", b"+0000")))(build)


@broken(5, 7)
def author_renamed(build: Build) -> None:
    each("last", lambda d: setattr(d, "author", d.author.replace(b"Ada", b"ada")))(build)


@broken(5, 7)
def committer_replaced_by_author(build: Build) -> None:
    each("list", lambda d: setattr(d, "committer", d.author))(build)


@broken(5, 7)
def every_committer_replaced(build: Build) -> None:
    build.on_every_image = lambda d: setattr(d, "committer", PERSON)
    build.run()


@broken(5, 7)
def author_and_committer_swapped(build: Build) -> None:
    def swap(draft: Draft) -> None:
        draft.author, draft.committer = draft.committer, draft.author

    each("number (#12)", swap)(build)


# The graph.


@broken(1, 2, 7, 14, says="has no image")
def commit_left_out(build: Build) -> None:
    build.leave_out = {"keyword"}
    build.run()


@broken(1, 2, 7, 14)
def root_left_out(build: Build) -> None:
    """The first images begin where the second source commit is."""
    build.on_image["number (#12)"] = lambda d: d.parents.clear()
    build.run()


@broken(1, says="image of no source commit")
def duplicate_image(build: Build) -> None:
    def twice(image: str) -> str:
        build.workshop.write(build.host)
        draft = read(build.host, image)
        draft.parents = [image]
        return draft.write(build.workshop)

    build.on_tip = twice
    build.run()


@broken(2, 7)
def swapped_parents_of_an_image(build: Build) -> None:
    each("merge", lambda d: d.parents.reverse())(build)


@broken(2, 1, 7, 14)
def lost_second_parent(build: Build) -> None:
    each("merge", lambda d: d.parents.pop())(build)


@broken(2, 7)
def one_parent_more(build: Build) -> None:
    each("merge", lambda d: d.parents.append(next(iter(build.images.values()))))(build)


@broken(1, 2, 4, 7, 8)
def host_commit_below_the_images(build: Build) -> None:
    """As a rebase of the whole side onto the host, trees kept."""
    each("base", lambda d: d.parents.append(tip(build.host)))(build)


@broken(1, says="says 5 commits")
def commit_count_false(build: Build) -> None:
    build.trailers["Commits"] = "5"
    build.run()


@broken(1, says="names the tip")
def tip_trailer_false(build: Build) -> None:
    build.trailers["Tip"] = "1" * 40
    build.run()


@broken(1, says="3 parents")
def octopus_join(build: Build) -> None:
    build.on_join = lambda d: d.parents.append(next(iter(build.images.values())))
    build.run()


@broken(1, says="pins")
def another_commit_than_the_pin(build: Build) -> None:
    build.run(git(build.source, "rev-parse", "main~1"))


# Trees.


@broken(3, 7, 14, says="'code.rs'")
def blob_changed_in_the_middle(build: Build) -> None:
    in_tree(build, "number (#12)", b"rust/code.rs", build.blob(b"other\n"))


@broken(3, 7, 14)
def blob_changed_at_the_tip(build: Build) -> None:
    in_tree(build, "last", b"rust/code.rs", build.blob(b"other\n"))


@broken(3, 7, 14)
def mode_lost(build: Build) -> None:
    in_tree(build, "base", b"rust/run.sh", build.blob(b"#!/bin/sh\n"))


@broken(3, 7)
def stray_file_inside_the_prefix(build: Build) -> None:
    in_tree(build, "reverts", b"rust/stray", build.blob(b"stray\n"))


@broken(3, 7, 14)
def file_missing_in_the_middle(build: Build) -> None:
    in_tree(build, "keyword", b"rust/LICENSE", None)


@broken(4, 7, says="'stray'")
def stray_file_outside(build: Build) -> None:
    in_tree(build, "keyword", b"stray", build.blob(b"stray\n"))


@broken(4, 7, linear=True, says="README.md")
def file_of_the_host_changed(build: Build) -> None:
    in_tree(build, "keyword", b"README.md", build.blob(b"changed\n"))


@broken(4, 7, linear=True)
def file_of_the_host_lost(build: Build) -> None:
    in_tree(build, "keyword", b"LICENSE", None)


# Messages.


def in_message(subject: str, old: bytes, new: bytes) -> Spoil:
    return each(subject, lambda d: setattr(d, "message", d.message.replace(old, new)))


@broken(6, 7)
def trailer_recased(build: Build) -> None:
    in_message("keyword", b"Signed-off-by", b"Signed-Off-By")(build)


@broken(6, 7, says="newline was added")
def final_newline_added(build: Build) -> None:
    each("number (#12)", lambda d: setattr(d, "message", d.message + b"\n"))(build)


@broken(6, 7, says="newline at the end is lost")
def final_newline_lost(build: Build) -> None:
    each("last", lambda d: setattr(d, "message", d.message[:-1]))(build)


@broken(6, 7, says="bare number '#12")
def bare_number_left(build: Build) -> None:
    in_message("number (#12)", build.qualify, b"")(build)


@broken(6, 7, says="closing keyword")
def closing_keyword_left(build: Build) -> None:
    in_message("keyword", b"upstream ", b"")(build)


@broken(6, 7, says="instead of")
def hash_untranslated(build: Build) -> None:
    build.translate = False
    build.run()


@broken(6, 7)
def word_lost(build: Build) -> None:
    in_message("merge", b"merge", b"merg")(build)


@broken(6, 7, says="encoding")
def encoding_header_lost(build: Build) -> None:
    each("Grüße", lambda d: d.headers.clear())(build)


@broken(6, 7, says="encoding")
def message_reencoded(build: Build) -> None:
    def change(draft: Draft) -> None:
        draft.headers, draft.message = [], draft.message.decode("latin-1").encode()

    each("Grüße", change)(build)


# Ids and signatures.


@broken(7, says="change-id")
def extended_header_lost(build: Build) -> None:
    def change(draft: Draft) -> None:
        draft.headers = [pair for pair in draft.headers if pair[0] != b"change-id"]

    build.on_every_image = change
    build.run()


@broken(7, says="extra added")
def extended_header_added(build: Build) -> None:
    each("last", lambda d: d.headers.append((b"extra", b"1")))(build)


@broken(7, says="configuration")
def config_digest_wrong(build: Build) -> None:
    build.trailers["Config"] = "sha256:" + "0" * 64
    build.run()


@broken(12, 7, says="gpgsig")
def signature_carried_over(build: Build) -> None:
    build.drop_signatures = False
    build.run()


@broken(12, 7)
def signature_of_a_robot(build: Build) -> None:
    each("last", lambda d: d.headers.append((b"gpgsig", SSH)))(build)


@broken(12, says="original is missing")
def originals_lost(build: Build) -> None:
    build.run()
    build.ref("refs/imports/frontend/original", None)


@broken(12)
def originals_of_an_earlier_commit(build: Build) -> None:
    build.run()
    build.ref("refs/imports/frontend/original", git(build.source, "rev-parse", "main~2"))


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


# Submodules.


def gitmodules(build: Build, *sections: tuple[str, str]) -> None:
    text = "".join(
        f'[submodule "{name}"]\n\tpath = {path}\n\turl = ../x\n' for name, path in sections
    )
    change(build.host, {".gitmodules": text.encode()}, "submodules\n")


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


def second(build: Build, ref: str, kind: str = "sync", **options: str) -> str:
    pin = tip(build.source, ref)
    image = build.make_images(pin)
    build.workshop.write(build.host)
    joined = build.join(image, pin, kind, on=tip(build.host, BRANCH), **options)
    build.ref(BRANCH, joined)
    build.ref("refs/imports/frontend/original", pin)
    build.ref("refs/imports/frontend/tip", image)
    return joined


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


# Not imports at all.


def as_one_commit(build: Build, message: bytes) -> None:
    build.run()
    draft = read(build.host, tip(build.host, BRANCH))
    draft.parents, draft.message = draft.parents[:1], message or draft.message
    oid = draft.write(build.workshop)
    build.workshop.write(build.host)
    build.ref(BRANCH, oid)


@broken(1, says="squashed")
def squashed_with_its_message(build: Build) -> None:
    as_one_commit(build, b"")


@broken(1, says="squashed")
def squashed_with_another_message(build: Build) -> None:
    as_one_commit(build, b"Bring in the frontend (#9)\n")


@broken(1, says="squashed")
def squashed_with_the_messages_of_all_commits(build: Build) -> None:
    listed = (
        b"Frontend (#9)\n\n* base\n\n* import: bring it in\n\n  History-Import-Name: frontend\n"
    )
    as_one_commit(build, listed)


@broken(1, source__pin="refs/heads/later", says="squashed")
def sync_squashed(build: Build) -> None:
    build.run()
    joined = second(build, "refs/heads/later")
    draft = read(build.host, joined)
    draft.parents, draft.message = draft.parents[:1], b"Sync (#10)\n"
    oid = draft.write(build.workshop)
    build.workshop.write(build.host)
    build.ref(BRANCH, oid)


@broken(1, linear=True, says="squashed")
def rebased_without_a_record(build: Build) -> None:
    build.on_every_image = lambda d: setattr(d, "committer", PERSON)
    build.run()
    build.ref(BRANCH, git(build.host, "rev-parse", f"{BRANCH}~1"))


@broken(5, 7, linear=True)
def rebased(build: Build) -> None:
    build.on_every_image = lambda d: setattr(d, "committer", PERSON)
    build.run()


@broken(5, 6, 7, linear=True)
def applied_as_mail(build: Build) -> None:
    def change(draft: Draft) -> None:
        draft.committer, draft.message = PERSON, draft.message.rstrip(b"\n") + b"\n"

    build.on_every_image = change
    build.run()


@broken(4, 3, 6, 7, 9, 12, 14, says="touches")
def subtree_add(build: Build) -> None:
    """The source's own commits joined as they are, their files at the root."""
    build.originals(tip(build.source))
    pin, host = tip(build.source), tip(build.host)
    content = entries(build.host, host) | {PREFIX: (b"40000", read(build.source, pin).tree)}
    draft = Draft(build.tree(content), [host, pin], PERSON, PERSON, [], b"")
    draft.message = build.join_message(pin, pin, "import")
    oid = draft.write(build.workshop)
    build.workshop.write(build.host)
    build.ref(BRANCH, oid)


# Requirements.


@broken(13, require__max_blob_bytes=100, says="the limit is 100")
def blob_too_large(build: Build) -> None:
    build.run()


@broken(13, 3, 7, 14, says="is missing in the host")
def blob_not_there(build: Build) -> None:
    in_tree(build, "last", b"rust/code.rs", (b"100644", "1" * 40))


@broken(13, require__dco="strict", says="sign-off")
def not_signed_off(build: Build) -> None:
    build.run()


@broken(13, require__license=True, source__pin="refs/heads/unlicensed", says="licence")
def no_licence(build: Build) -> None:
    build.run(tip(build.source, "refs/heads/unlicensed"))


# Ids that the host reads, and its refs.


@broken(15, says="its image is")
def stale_ids_at_the_hosts_root(build: Build) -> None:
    build.run()
    stale = git(build.source, "rev-parse", "main~2").encode() + b"\n"
    change(build.host, {".git-blame-ignore-revs": stale}, "blame: ignore\n", ref=BRANCH)


@broken(8, 15)
def list_not_translated_in_the_merge(build: Build) -> None:
    listed = run_git(build.source, "cat-file", "blob", "main:.git-blame-ignore-revs")
    in_join(build, b".git-blame-ignore-revs", build.blob(listed))


@broken(16, says="refs/heads/main moved")
def another_ref_moved(build: Build) -> None:
    build.run()
    build.ref("refs/heads/main", tip(build.host, BRANCH))


@broken(16, says="refs/tags/v1")
def tag_added(build: Build) -> None:
    build.run()
    build.ref("refs/tags/v1", tip(build.host))


@broken(16, says="refs/replace/")
def replaced_commit(build: Build) -> None:
    build.run()
    build.ref(f"refs/replace/{tip(build.host)}", tip(build.host, BRANCH))


@broken(16, says="refs/original/")
def left_by_filter_branch(build: Build) -> None:
    build.run()
    build.ref("refs/original/refs/heads/main", tip(build.host))


@broken(16, says="MERGE_HEAD")
def merge_not_finished(build: Build) -> None:
    build.run()
    (build.host / ".git" / "MERGE_HEAD").write_text(tip(build.host) + "\n")


@broken(16, says="main.lock")
def lock_left(build: Build) -> None:
    build.run()
    (build.host / ".git" / "refs" / "heads" / "main.lock").write_text("")


@broken(16, says="/tip")
def import_ref_elsewhere(build: Build) -> None:
    build.run()
    build.ref("refs/imports/frontend/tip", tip(build.host))


@broken(16, says="/map")
def map_wrong(build: Build) -> None:
    build.run()
    rows = "".join(f"{oid} {oid}\n" for oid in build.images)
    blob = git(build.host, "hash-object", "-w", "--stdin", stdin=rows.encode())
    build.ref("refs/imports/frontend/map", blob)
