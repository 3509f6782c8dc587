# SPDX-License-Identifier: Apache-2.0
"""Points 8, 9 and 11: what a join does to the host's own line, and that no submodule is left.

Owns the comparison of a join with its first parent. It must not look at single images.
"""

from __future__ import annotations

import re
import subprocess

from ..git import Repository
from .evidence import Evidence
from .joins import Join
from .result import Check, Point
from .revisions import translated_ids
from .trees import EMPTY, Trees

MODULES = b".gitmodules"
MODULE_PATH = re.compile(rb"submodule\..*\.path", re.DOTALL | re.IGNORECASE)


def shown(path: bytes) -> str:
    return repr(path.decode("utf-8", "backslashreplace"))


def own_line(evidence: Evidence, known: Trees, refs_before: dict[bytes, str] | None) -> Point:
    check = Check(8)
    line = set(_first_parents(evidence.store, evidence.tip))
    for join in evidence.joins:
        _former_tip(check, evidence, join, line)
        _changes(check, evidence, known, join)
    _bases(check, evidence, line, refs_before)
    check.counts = {"joins": len(evidence.joins)}
    return check.point(f"{len(evidence.joins)} on the first-parent line, nothing else changed")


def _first_parents(store: Repository, tip: str) -> list[str]:
    return store.git("rev-list", "--first-parent", tip, "--").decode().split()


def _former_tip(check: Check, evidence: Evidence, join: Join, line: set[str]) -> None:
    """A branch that was landed by a merge meets the host's line further down."""
    where = f"join {join.oid[:12]}"
    if not join.linear and (join.host == join.tip or join.host in evidence.found):
        check.wrong(f"{where}: its first parent {join.host[:12]} is the imported side")
    elif join.oid not in line and not line.intersection(_first_parents(evidence.store, join.oid)):
        check.wrong(f"{where}: its first parents never meet those of {evidence.ref}")


def _bases(
    check: Check, evidence: Evidence, line: set[str], refs_before: dict[bytes, str] | None
) -> None:
    """The host's tip from before must still be on its line: on the join's, or on the ref's."""
    base = evidence.rules.target.base
    first = evidence.joins[0]
    own = line | set(_first_parents(evidence.store, evidence.last.oid))
    name = f"refs/backup/history-import/{evidence.rules.name}/{base}"
    before = [evidence.host.resolve(name)]
    if refs_before and evidence.last.oid in line:
        before.append(_tip_before(evidence, refs_before))
    for tip in before:
        if tip and tip not in own:
            check.wrong(f"the host's former tip {tip[:12]} is no first-parent ancestor of the join "
                        f"{first.oid[:12]}")  # fmt: skip


def _tip_before(evidence: Evidence, refs_before: dict[bytes, str]) -> str | None:
    """What the last join had to stand on: the base, or the branch that had what was not landed."""
    target = evidence.rules.target
    base, branch = (
        refs_before.get(f"refs/heads/{n}".encode()) for n in (target.base, target.branch)
    )
    if not (base and branch):
        return base
    on_branch = [j for j in evidence.joins if evidence.store.is_ancestor(j.oid, branch)]
    waiting = any(not evidence.store.is_ancestor(join.oid, base) for join in on_branch)
    return branch if waiting else base


def _changes(check: Check, evidence: Evidence, known: Trees, join: Join) -> None:
    with evidence.store.objects() as objects:
        before = objects.commit(join.host).tree
    if join.linear:
        if join.parts.tree != before:
            check.wrong(f"record {join.oid[:12]} changes the tree")
        return
    prefix = evidence.prefix
    for path in known.differences(before, join.parts.tree):
        if path != prefix and not path.startswith(prefix + b"/"):
            _declared(check, evidence, known, join, before, path)


def _declared(
    check: Check, evidence: Evidence, known: Trees, join: Join, before: str, path: bytes
) -> None:
    where = f"join {join.oid[:12]}"
    revisions = evidence.rules.target.ignore_revs.rpartition("/")[2].encode()
    if path == MODULES and _only_section_gone(evidence, known, before, join.parts.tree):
        return
    if path == revisions and known.at(before, path) is None:
        wrong = translated_ids(evidence, known, join)
        if wrong:
            check.wrong(f"{where}: {shown(path)} {wrong}")
        return
    check.wrong(f"{where} also changes {shown(path)}")


def modules(store: Repository, known: Trees, root: str) -> list[tuple[bytes, bytes]]:
    """Key and value of every line of `.gitmodules`, as git reads them."""
    entry = known.at(root, MODULES)
    if entry is None or not entry.mode.startswith(b"100"):
        return []
    listed = store.run("config", "--blob", entry.oid, "--list", "-z").stdout
    pairs = (item.partition(b"\n") for item in listed.split(b"\0") if item)
    return [(key, value) for key, _, value in pairs]


def _only_section_gone(evidence: Evidence, known: Trees, before: str, after: str) -> bool:
    old = modules(evidence.store, known, before)
    gone = {
        key.removesuffix(b"path")
        for key, value in old
        if MODULE_PATH.fullmatch(key) and value.rstrip(b"/") == evidence.prefix
    }
    left = [pair for pair in old if pair[0].rpartition(b".")[0] + b"." not in gone]
    entry = known.at(after, MODULES)
    if not gone or left != modules(evidence.store, known, after):
        return False
    return entry is None if not left else entry == _same_mode(known, before, after)


def _same_mode(known: Trees, before: str, after: str) -> object:
    """The entry after, if only its content changed."""
    old, new = known.at(before, MODULES), known.at(after, MODULES)
    return new if old and new and old.mode == new.mode else None


def at_the_prefix(evidence: Evidence, known: Trees) -> Point:
    check = Check(9)
    with evidence.store.objects() as objects:
        for number, join in enumerate(evidence.joins):
            image = objects.commit(join.tip).tree
            before = objects.commit(join.host).tree
            if join.kind == "sync" and not join.linear and number:
                _sync(check, evidence, known, join)
            else:
                _equal(check, evidence, known, join, image)
            _switch(check, evidence, known, join, before)
    _landing(check, evidence, known)
    check.counts = {
        "joins": len(evidence.joins),
        "hand-made": sum(j.hand_made for j in evidence.joins),
    }
    return check.point("equal to the imported tree" if len(evidence.joins) == 1 else
                       f"{len(evidence.joins)} joins as git computes them")  # fmt: skip


def _equal(check: Check, evidence: Evidence, known: Trees, join: Join, image: str) -> None:
    here = known.tree_at(join.parts.tree, evidence.prefix)
    there = known.tree_at(image, evidence.prefix)
    if here != there:
        path = next(known.differences(here, there), b"")
        check.wrong(f"join {join.oid[:12]}: {shown(path)} below the prefix is not the image's")


def _switch(check: Check, evidence: Evidence, known: Trees, join: Join, before: str) -> None:
    """What stood at the prefix before: nothing, or the submodule at the commit that came."""
    entry = known.at(before, evidence.prefix)
    if entry is None or join.linear or join is not evidence.joins[0]:
        return
    where = f"join {join.oid[:12]}"
    if entry.is_gitlink and (join.kind != "switch" or join.commit != entry.oid):
        check.wrong(f"{where} brings {join.commit[:12]}, the submodule was at {entry.oid[:12]}")
    if not entry.is_gitlink and entry.oid != known.tree_at(join.parts.tree, evidence.prefix):
        check.wrong(f"{where} replaces what the host had at the prefix")


def _sync(check: Check, evidence: Evidence, known: Trees, join: Join) -> None:
    """The merge that git makes of the two parents; the host's word counts below `detached`."""
    if join.hand_made:
        check.note(f"join {join.oid[:12]} was resolved by hand")
        return
    done = _merged(evidence, join.parts.parents)
    words = done.stdout.split(b"\0")
    if done.returncode not in (0, 1):
        check.wrong(f"join {join.oid[:12]}: git cannot merge its parents")
        return
    made = words[0].decode()
    below = evidence.prefix + b"/"
    conflicts = [path for path in words[1:] if path and not _detached(evidence, path)]
    if conflicts:
        check.wrong(f"join {join.oid[:12]}: git finds a conflict in {shown(conflicts[0])}, and the "
                    "join does not say that it was resolved by hand")  # fmt: skip
        return
    for path in known.differences(made, join.parts.tree):
        if path.startswith(below) and not _host_decided(evidence, known, join, path):
            check.wrong(f"join {join.oid[:12]}: {shown(path)} is not what git merges")


def _landing(check: Check, evidence: Evidence, known: Trees) -> None:
    """The merge that took the branch with the last join into the ref's line, where there is one."""
    line = _first_parents(evidence.store, evidence.tip)
    if evidence.last.oid in line:
        return
    landed = line[_oldest_with(evidence, line)]
    with evidence.store.objects() as objects:
        commit = objects.commit(landed)
    done = _merged(evidence, tuple(commit.parents))
    if len(commit.parents) != 2 or done.returncode:
        check.note(f"landed by {landed[:12]}, which git alone does not merge")
        return
    made = done.stdout.split(b"\0")[0].decode()
    for path in known.differences(made, commit.tree):
        if path.startswith(evidence.prefix + b"/"):
            check.wrong(f"landing {landed[:12]}: {shown(path)} is not what git merges")


def _oldest_with(evidence: Evidence, line: list[str]) -> int:
    """Along first parents, newest first, a commit has the join until it was landed."""
    newest, without = 0, len(line)
    while without - newest > 1:
        middle = (newest + without) // 2
        if evidence.store.is_ancestor(evidence.last.oid, line[middle]):
            newest = middle
        else:
            without = middle
    return newest


def _merged(evidence: Evidence, parents: tuple[str, ...]) -> subprocess.CompletedProcess[bytes]:
    options = ["--write-tree", "-z", "--no-messages", "--name-only"]
    return evidence.store.run("merge-tree", *options, *parents)


def _host_decided(evidence: Evidence, known: Trees, join: Join, path: bytes) -> bool:
    with evidence.store.objects() as objects:
        before = objects.commit(join.host).tree
    return _detached(evidence, path) and known.at(before, path) == known.at(join.parts.tree, path)


def _detached(evidence: Evidence, path: bytes) -> bool:
    inside = path.removeprefix(evidence.prefix + b"/")
    patterns = [pattern.rstrip("/") for pattern in evidence.rules.target.detached]
    below = [f"{pattern}/**" for pattern in patterns]
    return any(glob(pattern).fullmatch(inside) for pattern in [*patterns, *below])


def glob(pattern: str) -> re.Pattern[bytes]:
    """`**` is any number of folders, `*` and `?` stay within a name; a folder is all below it."""
    pieces = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    meant = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    text = "".join(meant.get(piece) or re.escape(piece) for piece in pieces)
    return re.compile(os_bytes(text), re.DOTALL)


def os_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def no_submodule(evidence: Evidence, known: Trees) -> Point:
    check = Check(11)
    with evidence.store.objects() as objects:
        roots = {evidence.ref: objects.commit(evidence.tip).tree}
    roots |= {f"join {join.oid[:12]}": join.parts.tree for join in evidence.joins}
    for where, root in roots.items():
        _remnants(check, evidence, known, where, root)
    return check.point("no gitlink, no entry in .gitmodules")


def _remnants(check: Check, evidence: Evidence, known: Trees, where: str, root: str) -> None:
    entry = known.at(root, evidence.prefix)
    if entry is not None and entry.is_gitlink:
        check.wrong(f"{where} has a gitlink at {shown(evidence.prefix)}")
    inside = known.tree_at(root, evidence.prefix)
    for path, item in known.files(inside) if inside != EMPTY else ():
        if item.is_gitlink:
            check.wrong(f"{where} has a gitlink at {shown(evidence.prefix + b'/' + path)}")
    for key, value in modules(evidence.store, known, root):
        below = (value + b"/").startswith(evidence.prefix + b"/")
        if MODULE_PATH.fullmatch(key) and below:
            check.wrong(f"{where}: .gitmodules still has an entry for {shown(value)}")
