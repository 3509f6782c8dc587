# SPDX-License-Identifier: Apache-2.0
"""Points 3 and 4: at the prefix the source's tree, around it nothing of the import's.

Owns the comparison of trees, image by image. Knows nothing of joins.
"""

from __future__ import annotations

from .evidence import Evidence
from .identity import Segment
from .result import Check, Point
from .trees import EMPTY, Trees


def trees(evidence: Evidence, known: Trees) -> tuple[Point, Point]:
    """A root tree that has the one possible id has the right content, also outside."""
    inside, outside = Check(3), Check(4)
    bases = {id(segment): _base(evidence, segment) for segment in evidence.segments}
    equal = 0
    for segment, oid, image in evidence.pairs():
        source, found = evidence.source.parts(oid), evidence.found.parts(image)
        if found.tree == evidence.imaging.tree(source, segment.roots):
            equal += 1
            continue
        wanted = evidence.imaging.inside(source)
        there = known.tree_at(found.tree, evidence.prefix)
        where = f"image {image[:12]} of {oid[:12]}"
        if there != wanted:
            inside.wrong(f"{where}: {_first(evidence, known, oid, there, wanted)}")
        else:
            equal += 1
        _around(outside, where, known, found.tree, bases[id(segment)], evidence.prefix)
    _strays(evidence, outside, known)
    inside.counts = {"trees": len(evidence.source), "equal": equal}
    outside.counts = {"images": len(evidence.pairing.images)}
    proofs = f"{equal:,}/{len(evidence.source):,} trees", f"{outside.counts['images']:,} images"
    return inside.point(proofs[0]), outside.point(proofs[1])


def _base(evidence: Evidence, segment: Segment) -> str:
    if not segment.base:
        return EMPTY
    with evidence.store.objects() as objects:
        return objects.commit(segment.base).tree


def _first(evidence: Evidence, known: Trees, oid: str, there: str, wanted: str) -> str:
    if there == EMPTY:
        return f"nothing at {evidence.rules.target.prefix}/"
    if evidence.source_store.code("cat-file", "-e", wanted):
        return f"tree {there[:12]} instead of {wanted[:12]}"
    with evidence.source_store.objects() as objects:
        theirs = Trees(objects)
        path = _first_difference(known, there, theirs, wanted)
    return f"{path.decode('utf-8', 'backslashreplace')!r} is not the source's"


def _first_difference(one: Trees, left: str, other: Trees, right: str, path: bytes = b"") -> bytes:
    """The two trees are in different stores; content, mode and absence all count."""
    here = {entry.name: entry for entry in one.entries(left)}
    there = {entry.name: entry for entry in other.entries(right)}
    for name in sorted(here.keys() | there.keys()):
        mine, theirs = here.get(name), there.get(name)
        if mine == theirs:
            continue
        if mine and theirs and mine.is_tree and theirs.is_tree:
            return _first_difference(one, mine.oid, other, theirs.oid, path + name + b"/")
        return path + name
    return path


def _around(check: Check, where: str, known: Trees, root: str, base: str, prefix: bytes) -> None:
    """Folders on the way to the prefix hold nothing else than the host's, in the plain mode."""
    inside = prefix + b"/"
    others = (
        path
        for path in known.differences(root, base)
        if not path.startswith(inside) and path != prefix
    )
    if path := next(others, None):
        check.wrong(f"{where} touches {path.decode('utf-8', 'backslashreplace')!r}")


def _strays(evidence: Evidence, check: Check, known: Trees) -> None:
    """In layout merge also a commit that is nobody's image must stay below the prefix."""
    if evidence.linear:
        return
    for image in evidence.pairing.strays:
        tree = evidence.found.parts(image).tree
        _around(check, f"commit {image[:12]}", known, tree, EMPTY, evidence.prefix)
