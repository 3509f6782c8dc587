# SPDX-License-Identifier: Apache-2.0
"""What is no import at all, requirements that are not met, and a host left in disorder.

Owns these mutations; the points beside each must say so, the first by name.
"""

from __future__ import annotations

from .generator import change, git, tip
from .generator.objects import run_git
from .mutation import (
    BRANCH,
    as_one_commit,
    broken,
    in_join,
    in_tree,
    second,
)
from .third_writer import PERSON, PREFIX, Build, Draft, entries, read

# Not imports at all.


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


@broken(1, linear=True, says="rebased")
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
