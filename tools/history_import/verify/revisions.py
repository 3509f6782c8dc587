# SPDX-License-Identifier: Apache-2.0
"""Point 15: the ids in the host's list of ignored revisions are commits that blame can meet.

Owns the reading of such a list. Git itself says nothing about an id that does not exist.
"""

from __future__ import annotations

import re

from .evidence import Evidence
from .joins import Join
from .result import Check, Point
from .trees import Trees

OID = re.compile(rb"[0-9a-f]{40}")
USUAL = b".git-blame-ignore-revs"


def ids(text: bytes) -> list[str]:
    """One a line; `#` begins a comment."""
    words = (line.partition(b"#")[0].strip() for line in text.splitlines())
    return [word.decode("utf-8", "replace") for word in words if word]


def translated_ids(evidence: Evidence, known: Trees, join: Join) -> str:
    """What is wrong with the list that a join added: it must have the source's, translated."""
    name = evidence.rules.target.ignore_revs
    there = known.at(join.parts.tree, name.rpartition("/")[2].encode())
    source = evidence.source_store.run("cat-file", "blob", f"{join.commit}:{name}")
    if there is None or source.returncode:
        return "was not in the source"
    with evidence.store.objects() as objects:
        found = ids(objects.read(there.oid)[1])
    images = [
        evidence.image_of(full) for oid in ids(source.stdout) if (full := _full(evidence, oid))
    ]
    if found != [image for image in images if image]:
        return "does not have the source's ids, translated"
    return ""


def _full(evidence: Evidence, oid: str) -> str:
    if oid in evidence.source:
        return oid
    alike = [one for one in evidence.source.oids if len(oid) >= 4 and one.startswith(oid.lower())]
    return alike[0] if len(alike) == 1 else ""


def ignored_revisions(evidence: Evidence, known: Trees) -> Point:
    check = Check(15)
    with evidence.store.objects() as objects:
        root = objects.commit(evidence.tip).tree
        names = {USUAL, evidence.rules.target.ignore_revs.rpartition("/")[2].encode()} - {b""}
        lists = {name: entry for name in sorted(names) if (entry := known.at(root, name))}
        listed = {name: ids(objects.read(entry.oid)[1]) for name, entry in lists.items()}
    reachable = _reachable(evidence) if any(listed.values()) else set()
    for name, oids in listed.items():
        for oid in oids:
            check.count("ids")
            if oid not in reachable:
                image = evidence.image_of(oid)
                hint = f"; its image is {image[:12]}" if image else ""
                check.wrong(
                    f"{name.decode()} names {oid[:12]}, which {evidence.ref} does not have{hint}"
                )
    return check.point(f"{check.counts.get('ids', 0)} ids" if listed else "no list at the root")


def _reachable(evidence: Evidence) -> set[str]:
    return set(evidence.store.git("rev-list", evidence.tip, "--").decode().split())
