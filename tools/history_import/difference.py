# SPDX-License-Identifier: Apache-2.0
"""Why two images of one source commit are not the same object: the first commit, and what differs.

Knows nothing of how either image was made.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import trees
from .git import Commit, ObjectReader, Repository

# What every commit has; anything else is an extended header.
USUAL = {b"tree", b"parent", b"author", b"committer", b"encoding"}


@dataclass(frozen=True)
class Difference:
    commit: str
    graft: str
    filter_repo: str
    reason: str
    commits: int  # how many ids differ, this one included

    @property
    def line(self) -> str:
        if not self.filter_repo:
            return self.reason
        return (
            f"{self.commits} ids differ, first at source commit {self.commit[:8]}: {self.reason} "
            f"(graft {self.graft[:8]}, git-filter-repo {self.filter_repo[:8]})"
        )


def first(
    grafted: dict[str, str], filtered: dict[str, str], ours: Repository, theirs: Repository
) -> Difference | None:
    differing = [oid for oid, image in grafted.items() if filtered[oid] != image]
    if not differing:
        return None
    oid = differing[0]
    with ours.objects() as left, theirs.objects() as right:
        reason = explain(left, grafted[oid], right, filtered[oid])
    return Difference(oid, grafted[oid], filtered[oid], reason, len(differing))


def explain(left: ObjectReader, ours: str, right: ObjectReader, theirs: str) -> str:
    one, other = left.commit(ours), right.commit(theirs)
    reasons = _headers(one, other)
    if one.tree != other.tree:
        reasons.append(_tree(left, one.tree, right, other.tree, b""))
    if one.message != other.message:
        reasons.append(_message(one, other))
    return ", ".join(reasons) or "the order of headers differs"


def _headers(one: Commit, other: Commit) -> list[str]:
    reasons = []
    for key in dict.fromkeys(key for key, _ in one.headers + other.headers):
        if key == b"tree":
            continue
        here = [value for name, value in one.headers if name == key]
        there = [value for name, value in other.headers if name == key]
        if here != there:
            reasons.append(_header(key, here, there))
    return reasons


def _header(key: bytes, here: list[bytes], there: list[bytes]) -> str:
    name = key.decode("utf-8", "backslashreplace")
    if not there:
        kind = "header" if key in USUAL else "extended header"
        return f"git-filter-repo drops the {kind} {name}"
    if not here:
        return f"git-filter-repo adds the header {name}"
    return f"git-filter-repo changes {name} from {_shown(here)} to {_shown(there)}"


def _shown(values: list[bytes]) -> str:
    return " and ".join(repr(value.decode("utf-8", "backslashreplace")) for value in values)


def _message(one: Commit, other: Commit) -> str:
    encoding = (one.header(b"encoding") or b"").decode("utf-8", "backslashreplace")
    odd = f" (encoding {encoding})" if encoding else ""
    return f"git-filter-repo changes the message{odd}"


def _tree(left: ObjectReader, ours: str, right: ObjectReader, theirs: str, path: bytes) -> str:
    """Down to the first entry that is not the same."""
    here = {e.name: e for e in left.tree(ours)} if ours != trees.EMPTY_TREE else {}
    there = {e.name: e for e in right.tree(theirs)} if theirs != trees.EMPTY_TREE else {}
    for name in [*here, *(n for n in there if n not in here)]:
        one, other = here.get(name), there.get(name)
        if one == other:
            continue
        full = path + name
        shown = full.decode("utf-8", "backslashreplace")
        if one is None or other is None:
            return f"git-filter-repo {'adds' if one is None else 'drops'} {shown}"
        if one.is_tree and other.is_tree:
            return _tree(left, one.oid, right, other.oid, full + b"/")
        modes = f"{one.mode.decode()} to {other.mode.decode()}"
        what = f"mode of {shown} from {modes}" if one.mode != other.mode else f"content of {shown}"
        return f"git-filter-repo changes the {what}"
    return "git-filter-repo orders a tree differently"
