# SPDX-License-Identifier: Apache-2.0
"""Content that is in the host without its history: squashed, rebased or copied.

Owns how such a commit is recognized and described. Knows nothing of the points.
"""

from __future__ import annotations

from ..git import Repository
from .trees import EMPTY, Trees


def by_message(without: list[str], ref: str) -> str:
    return (
        f"commit {without[0][:12]} in {ref} has the import's message, but not the history it names"
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
