# SPDX-License-Identifier: Apache-2.0
"""Content that is in the host without its history: squashed, rebased or copied.

Owns how such a commit is recognized and described. Knows nothing of the points.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..git import Repository
from .graph import History
from .trees import EMPTY, Trees


def by_message(without: list[str], ref: str) -> str:
    return (
        f"commit {without[0][:12]} in {ref} has the import's message, but not the history it names"
    )


def by_content(
    store: Repository,
    ref: str,
    tip: str,
    prefix: bytes,
    source: History,
    imported: Iterable[str] = (),
    since: str = "",
) -> str:
    """The newest commit on the first-parent line whose prefix is a source commit's tree.

    Trees that the imported commits have say nothing, nor do commits before `since`.
    """
    known = {source.parts(oid).tree for oid in imported} | {EMPTY}
    wanted = {tree: oid for oid in source.oids if (tree := source.parts(oid).tree) not in known}
    line = [
        "--literal-pathspecs",
        "rev-list",
        "--first-parent",
        tip,
        *([f"^{since}"] if since else []),
    ]
    touching = store.git(*line, "--", prefix).decode().split()
    with store.objects() as objects:
        trees = Trees(objects)
        for oid in touching:
            found = wanted.get(trees.tree_at(objects.commit(oid).tree, prefix))
            if found:
                shown = prefix.decode("utf-8", "backslashreplace")
                return (
                    f"commit {oid[:12]} in {ref} brings the tree of source commit {found[:12]} "
                    f"to {shown}/, but not its history"
                )
    return ""
