# SPDX-License-Identifier: Apache-2.0
"""Points 5, 6 and 12: who wrote a commit and when, what it says, and what it is signed with.

Owns the comparison of headers and messages, image by image. Knows nothing of trees or joins.
"""

from __future__ import annotations

from ..progress import Progress
from . import messages
from .evidence import Evidence
from .graph import Parts, key_of
from .identity import SIGNATURES
from .result import Check, Point


def people(evidence: Evidence) -> Point:
    check = Check(5)
    for _segment, oid, image in evidence.pairs():
        source, found = evidence.source.parts(oid), evidence.found.parts(image)
        for wanted, there in ((source.author, found.author), (source.committer, found.committer)):
            if wanted != there:
                where = f"image {image[:12]} of {oid[:12]}"
                check.wrong(f"{where}: {messages.shown(there)} instead of {messages.shown(wanted)}")
                break
        else:
            check.count("equal")
    equal = check.counts.setdefault("equal", 0)
    check.counts["people"] = len(evidence.source)
    return check.point(f"{equal:,}/{len(evidence.source):,} authors and committers")


def texts(evidence: Evidence) -> Point:
    """Bytes and the declared encoding; ids in messages must be the ones of the images found."""
    check, images = Check(6), evidence.pairing.images
    with Progress("messages compared", len(evidence.source)) as progress:
        for _segment, oid, image in evidence.pairs():
            progress.advance()
            source, found = evidence.source.parts(oid), evidence.found.parts(image)
            wanted = evidence.imaging.message(oid, source, lambda one: images.get(one, one))
            where = f"image {image[:12]} of {oid[:12]}"
            if source.header(b"encoding") != found.header(b"encoding"):
                check.wrong(f"{where}: the encoding header is not the source's")
            elif wanted != found.message:
                check.wrong(f"{where}: {_why(evidence, wanted, found)}")
            else:
                _count(check, source, found)
    counts = check.counts
    changed = f", {counts['rewritten']:,} rewritten as declared" if "rewritten" in counts else ""
    return check.point(f"{counts.get('equal', 0):,}/{len(evidence.source):,} messages{changed}")


def _why(evidence: Evidence, wanted: bytes | None, found: Parts) -> str:
    if wanted is None or found.message is None:
        return "a message where there is none, or none where there is one"
    return messages.explain(wanted, found.message, evidence.rules.messages)


def _count(check: Check, source: Parts, found: Parts) -> None:
    check.count("equal")
    if source.message != found.message:
        check.count("rewritten")


def signatures(evidence: Evidence) -> Point:
    check = Check(12)
    for image in evidence.found.oids:
        for key in map(key_of, evidence.found.parts(image).extra):
            if key in SIGNATURES:
                check.wrong(f"image {image[:12]} carries a {key.decode()} of another object")
    signed = [oid for oid in evidence.source.oids if _signed(evidence.source.parts(oid))]
    check.counts = {"signed originals": len(signed)}
    kept = _kept(check, evidence) if evidence.rules.keep.originals else "originals not kept"
    return check.point(f"{len(signed):,} signed originals, {kept}")


def _signed(parts: Parts) -> bool:
    return any(key_of(header) in SIGNATURES for header in parts.extra)


def _kept(check: Check, evidence: Evidence) -> str:
    """All of them in the host, and reachable, so that nothing throws them away."""
    ref = f"refs/imports/{evidence.rules.name}/original"
    tip = evidence.host.resolve(ref)
    last = evidence.last.commit
    if not tip:
        check.wrong(f"{ref} is missing: git fetch REMOTE '{ref}:{ref}', or the originals are lost")
    elif tip != last and not evidence.store.is_ancestor(last, tip):
        check.wrong(f"{ref} is {tip[:12]}, which does not have source commit {last[:12]}")
    else:
        _all_there(check, evidence)
    return "kept"


def _all_there(check: Check, evidence: Evidence) -> None:
    ask = "".join(f"{oid}\n" for oid in evidence.source.oids).encode()
    found = evidence.store.git("cat-file", "--batch-check=%(objectname) %(objecttype)", input=ask)
    for line in found.splitlines():
        if not line.endswith(b" commit"):
            check.wrong(f"the original {line[:12].decode()} is not in the host")
