# SPDX-License-Identifier: Apache-2.0
"""Runs git-filter-repo in the current folder, a scratch repository, with the declared rewrites.

A process of its own, because git-filter-repo is a program: it exits, prints and keeps state. Reads
one JSON object from stdin. Shares only the rules for messages with the graft; ids, parents and
trees are git-filter-repo's. Refuses to run where no scratch repository was prepared for it.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from typing import Any

import git_filter_repo

from . import messages
from .messages import Rules

MARK = "historyImport.scratch"
REPORTED = 100


def arguments(prefix: str) -> list[str]:
    """Its own ideas about hashes, encodings and empty commits are all switched off."""
    return [
        f"--to-subdirectory-filter={prefix}",
        "--preserve-commit-hashes",
        "--preserve-commit-encoding",
        "--prune-empty=never",
        "--prune-degenerate=never",
        "--no-gc",
        "--quiet",
    ]


def callback(request: dict[str, Any]) -> Any:
    """Also says how many commits are done, a line of digits for each hundred."""
    rules = Rules(request["qualify"].encode(), request["defuse"], request["translate"])
    references: dict[str, dict[str, str]] = request["references"]

    done = itertools.count(1)

    def change(commit: Any, metadata: dict[str, Any]) -> None:
        if (number := next(done)) % REPORTED == 0:
            print(number, flush=True)
        named = references.get(commit.original_id.decode("ascii"), {})

        def image_of(text: bytes) -> bytes | None:
            source = named.get(text.decode("ascii"))
            return metadata["commit_rename_func"](source.encode()) if source else None

        commit.message = messages.rewrite(commit.message, rules, image_of).message

    return change


def main() -> None:
    marked = subprocess.run(["git", "config", "--get", MARK], capture_output=True, check=False)
    if marked.stdout.strip() != b"true":
        raise SystemExit("this is not a scratch repository of history-import")
    request = json.load(sys.stdin)
    options = git_filter_repo.FilteringOptions.parse_args(arguments(request["prefix"]))
    git_filter_repo.RepoFilter(options, commit_callback=callback(request)).run()


if __name__ == "__main__":
    main()
