# SPDX-License-Identifier: Apache-2.0
"""Files of the source that the host declared it does without: absent here, kept there.

Owns what a pattern of `target.detached` matches and how trees lose or regain such files. Patterns
are relative to the prefix: `**` is any number of folders, `*` and `?` stay within one name. It must
not know merges nor exports.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable

from . import trees
from .git import Repository

WORDS = {"**/": rb"(?:.*/)?", "/**": rb"/.*", "**": rb".*", "*": rb"[^/]*", "?": rb"[^/]"}
TOKEN = re.compile(r"\*\*/|/\*\*$|\*\*|\*|\?")


@functools.cache
def expression(pattern: str) -> re.Pattern[bytes]:
    parts, position = [], 0
    for found in TOKEN.finditer(pattern):
        parts += [re.escape(os.fsencode(pattern[position : found.start()])), WORDS[found.group()]]
        position = found.end()
    parts.append(re.escape(os.fsencode(pattern[position:])))
    return re.compile(b"".join(parts), re.DOTALL)


def matches(patterns: Iterable[str], path: bytes) -> bool:
    """A pattern that names a folder stands for everything below it."""
    spelled = [pattern.rstrip("/") for pattern in patterns]
    both = [*spelled, *(f"{pattern}/**" for pattern in spelled)]
    return any(expression(pattern).fullmatch(path) for pattern in both)


def files(repository: Repository, tree: str) -> dict[bytes, tuple[bytes, str]]:
    """Path -> (mode, id) of everything below `tree` that is not a folder."""
    found = {}
    for line in repository.git("ls-tree", "-r", "-z", tree).split(b"\0")[:-1]:
        about, _, path = line.partition(b"\t")
        mode, _kind, oid = about.split()
        found[path] = (mode, oid.decode())
    return found


def restored(repository: Repository, patterns: tuple[str, ...], tree: str, model: str) -> str:
    """`tree` with the matching files of `model` that it lacks."""
    have = files(repository, tree)
    for path, entry in files(repository, model).items():
        if path not in have and matches(patterns, path):
            tree = trees.splice(repository, tree, path, entry)
    return tree


def removed(repository: Repository, patterns: tuple[str, ...], tree: str, model: str) -> str:
    """`tree` without the matching files that `model` lacks: what is deleted stays deleted."""
    have = files(repository, model)
    for path in files(repository, tree):
        if path not in have and matches(patterns, path):
            tree = trees.splice(repository, tree, path, None)
    return tree
