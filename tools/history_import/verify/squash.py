# SPDX-License-Identifier: Apache-2.0
"""Content that is in the host without its history: squashed, rebased or copied.

Owns how such a commit is recognized and described. Knows nothing of the points.
"""

from __future__ import annotations

from ..git import Repository
from .graph import History
from .trees import EMPTY, Trees

REBASED = "rebased"


def by_message(without: list[str], ref: str) -> str:
    return (
        f"commit {without[0][:12]} in {ref} has the import's message, but not the history it names"
    )


def by_rebase(copied: list[str], ref: str) -> str:
    return (
        f"{REBASED}: {len(copied):,} commits in {ref}, up to {copied[0][:12]}, are copies of the "
        "source's by their authors and dates, without the history itself"
    )


def by_content(
    store: Repository, ref: str, tip: str, prefix: bytes, wanted: dict[str, str], since: str = ""
) -> str:
    """The newest commit on the first-parent line, after `since`, whose prefix is a wanted tree.

    `wanted` maps trees to the source commits that have them.
    """
    line = ["rev-list", "--first-parent", tip, *([f"^{since}"] if since else [])]
    touching = store.git("--literal-pathspecs", *line, "--", prefix).decode().split()
    with store.objects() as objects:
        trees = Trees(objects)
        for oid in touching:
            there = trees.tree_at(objects.commit(oid).tree, prefix)
            if there != EMPTY and there in wanted:
                shown = prefix.decode("utf-8", "backslashreplace")
                return (
                    f"commit {oid[:12]} in {ref} brings the tree of source commit "
                    f"{wanted[there][:12]} to {shown}/, but not its history"
                )
    return ""


def copies(
    store: Repository, tip: str, prefix: bytes, source: History, since: str = ""
) -> list[str]:
    """Commits of the line after `since`, newest first, with a source author and date: a rebase.

    Two of them tell it from a squash, which has one at most.
    """
    authors = {source.parts(oid).author for oid in source.oids}
    line = ["rev-list", "--first-parent", tip, *([f"^{since}"] if since else [])]
    listed = store.git("--literal-pathspecs", *line, "--", prefix).decode().split()
    with store.objects() as objects:
        copied = [oid for oid in listed if b"author " + objects.commit(oid).author in authors]
    return copied if len(copied) > 1 else []
