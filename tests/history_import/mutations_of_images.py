# SPDX-License-Identifier: Apache-2.0
"""Broken images: people, graph, trees, messages, ids and signatures.

Owns these mutations; the points beside each must say so, the first by name.
"""

from __future__ import annotations

from .generator import git, tip
from .generator.odd_bytes import SSH
from .mutation import (
    broken,
    each,
    in_message,
    in_tree,
)
from .third_writer import PERSON, Build, Draft, read

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
