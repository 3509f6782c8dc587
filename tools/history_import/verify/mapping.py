# SPDX-License-Identifier: Apache-2.0
"""Points 1, 2, 7 and 10: the images, their parents, their ids, and one import after another.

Owns the graph's side of the proof. It must not look into trees or messages.
"""

from __future__ import annotations

from itertools import pairwise

from .evidence import Evidence
from .graph import Parts, key_of
from .identity import SIGNATURES
from .joins import Join
from .result import Check, Point


def one_image_each(evidence: Evidence) -> Point:
    check, pairing = Check(1), evidence.pairing
    for oid in pairing.missing:
        check.wrong(f"source commit {oid[:12]} has no image")
    for image in pairing.strays:
        check.wrong(f"commit {image[:12]} on the imported side is the image of no source commit")
    for oid, image in pairing.shared:
        check.wrong(f"source commit {oid[:12]} shares image {image[:12]} with another")
    for number, join in enumerate(evidence.joins):
        _trailers(check, evidence, number, join)
    check.counts = {"commits": len(evidence.source), "images": len(set(pairing.images.values()))}
    return check.point(f"{check.counts['images']:,}/{check.counts['commits']:,} commits")


def _trailers(check: Check, evidence: Evidence, number: int, join: Join) -> None:
    where, side = f"join {join.oid[:12]}", join.parts.parents[-1]
    if join.trailers["Tip"] not in join.parts.parents:
        check.wrong(f"{where} names the tip {join.trailers['Tip'][:12]}, its parent is {side[:12]}")
    if len(join.parts.parents) > 2:
        check.wrong(f"{where} has {len(join.parts.parents)} parents")
    if join.commit not in evidence.source:
        return  # point 10 says so
    if evidence.image_of(join.commit) != join.tip:
        check.wrong(f"{where}: its tip is not the image of source commit {join.commit[:12]}")
    count = _closure_size(evidence, join.commit)
    if join.trailers["Commits"] != str(count):
        check.wrong(f"{where} says {join.trailers['Commits']} commits, the source has {count}")
    last = number == len(evidence.joins) - 1
    pin = evidence.rules.source.pin
    if last and evidence.rules_found and join.kind != "switch" and pin != join.commit:
        check.wrong(f"{where} brings {join.commit[:12]}, its configuration pins {pin[:12]}")


def _closure_size(evidence: Evidence, oid: str) -> int:
    if oid == evidence.source.oids[-1]:
        return len(evidence.source)
    return int(evidence.source_store.git("rev-list", "--count", oid, "--"))


def parents(evidence: Evidence) -> Point:
    check = Check(2)
    images = evidence.pairing.images
    before = ""
    for segment, oid, image in evidence.pairs():
        source, found = evidence.source.parts(oid).parents, evidence.found.parts(image).parents
        if evidence.linear:
            if len(source) > 1:
                check.wrong(f"source commit {oid[:12]} is a merge, and the layout is linear")
            previous = segment.base if oid == segment.sources[0] else before
            wanted: tuple[str | None, ...] = (previous,) if previous else ()
            before = image
        else:
            wanted = tuple(images.get(parent) for parent in source)
        check.count("parents", len(source))
        if found != wanted:
            check.wrong(
                f"image {image[:12]} of {oid[:12]} has parents {_ids(found)}, not {_ids(wanted)}"
            )
    return check.point(f"{check.counts.get('parents', 0):,} parents in order")


def _ids(oids: tuple[str | None, ...]) -> str:
    return " ".join("(no image)" if oid is None else oid[:12] for oid in oids) or "none"


def recomputed_ids(evidence: Evidence) -> Point:
    check = Check(7)
    if not evidence.rules_found:
        digest = evidence.last.trailers["Config"]
        check.wrong(f"the join names configuration {digest}, which neither the given file nor the "
                    "host's history of it has; recomputed with the given file")  # fmt: skip
    equal = 0
    first = ""
    for _segment, oid, image in evidence.pairs():
        equal += evidence.wanted[oid] == image
        if evidence.wanted[oid] != image and not first:
            first = oid
    if first:
        differing = len(evidence.wanted) - equal
        check.wrong(
            f"{differing:,} ids differ, first the image of {first[:12]}: {_why(evidence, first)}"
        )
    elif evidence.pairing.missing:
        check.wrong(f"{len(evidence.pairing.missing):,} of the recomputed ids are not in the host")
    check.counts = {"ids": len(evidence.wanted), "equal": equal}
    tip = evidence.wanted[evidence.source.oids[-1]]
    return check.point(f"{equal:,}/{len(evidence.wanted):,} ids, tip {tip[:12]}")


def _why(evidence: Evidence, oid: str) -> str:
    image = evidence.pairing.images[oid]
    source, found = evidence.source.parts(oid), evidence.found.parts(image)
    changed = _changed_headers(evidence.imaging.extra(source), found)
    wanted = evidence.wanted[oid][:12]
    return f"{image[:12]} instead of {wanted}" + (f", {changed}" if changed else "")


def _changed_headers(wanted: tuple[bytes, ...], found: Parts) -> str:
    lost = [key_of(line) for line in wanted if line not in found.extra]
    added = [key_of(line) for line in found.extra if line not in wanted]
    words = [f"header {key.decode('utf-8', 'replace')} lost or changed" for key in lost]
    kinds = [key for key in added if key not in SIGNATURES and key not in lost]
    words += [f"header {key.decode('utf-8', 'replace')} added" for key in kinds]
    return ", ".join(words)


def earlier_imports(evidence: Evidence) -> Point:
    check = Check(10)
    joins = evidence.joins
    for earlier, later in pairwise(joins):
        pair = f"join {earlier.oid[:12]} and the later {later.oid[:12]}"
        if not evidence.store.is_ancestor(earlier.tip, later.tip):
            check.wrong(f"{pair}: the earlier tip {earlier.tip[:12]} is no ancestor of the later")
        if earlier.commit not in evidence.source:
            check.wrong(
                f"{pair}: source commit {earlier.commit[:12]} is no ancestor of the later one"
            )
    check.counts = {"imports": len(joins)}
    alone = "one import" if len(joins) == 1 else f"{len(joins)} imports, each on the one before"
    return check.point(alone)
