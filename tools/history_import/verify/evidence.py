# SPDX-License-Identifier: Apache-2.0
"""Everything that the points look at, gathered once: source, images, their pairing, the joins.

Owns the gathering. It must not judge: a point does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..config import Config
from ..errors import ProofFailed
from ..git import ObjectReader, Repository
from . import align, graph, identity
from .align import Pairing
from .graph import History, Parts
from .identity import Imaging, Segment
from .joins import Join
from .trees import EMPTY, Normalised, Roots, Trees


@dataclass
class Evidence:
    given: Config
    rules: Config  # the configuration that counts for the last join
    rules_found: bool  # its digest is the one that the join names
    host: Repository  # refs and files of the repository that is proved
    store: Repository  # its objects alone
    source_store: Repository
    ref: str
    tip: str
    joins: list[Join]
    source: History
    found: History  # images
    segments: list[Segment]
    imaging: Imaging
    wanted: dict[str, str]  # source -> the id its image must have
    pairing: Pairing

    @property
    def prefix(self) -> bytes:
        return self.rules.target.prefix.encode()

    @property
    def last(self) -> Join:
        return self.joins[-1]

    @property
    def linear(self) -> bool:
        return self.imaging.linear

    def pairs(self) -> Iterator[tuple[Segment, str, str]]:
        """Segment, source commit and image of each pair, parents first."""
        for segment in self.segments:
            for oid in segment.sources:
                if image := self.pairing.images.get(oid):
                    yield segment, oid, image

    def image_of(self, oid: str) -> str:
        return self.pairing.images.get(oid, "")

    def source_of(self) -> dict[str, str]:
        return {image: oid for oid, image in self.pairing.images.items()}


@dataclass
class Request:
    """Who is to be proved, before anything of it was read."""

    given: Config
    rules: Config
    rules_found: bool
    host: Repository
    store: Repository
    source_store: Repository
    ref: str
    tip: str
    joins: list[Join]


def gather(request: Request) -> Evidence:
    source = source_history(request)
    with request.store.objects() as objects, request.source_store.objects() as originals:
        segments, found = imported(request, source, Trees(objects))
        lossy = request.rules.engine.use == "filter-repo"
        normalised = Normalised(Trees(originals)) if lossy else None
        imaging = Imaging(request.rules, source, normalised)
        wanted = identity.expected(imaging, segments)
        pairing = align.pair(imaging, segments, found, wanted)
    return Evidence(**vars(request), source=source, found=found, segments=segments,
                    imaging=imaging, wanted=wanted, pairing=pairing)  # fmt: skip


def source_history(request: Request) -> History:
    last = request.joins[-1]
    known = request.source_store.run("cat-file", "-t", last.commit)
    if known.stdout.strip() != b"commit":
        raise ProofFailed(
            f"join {last.oid[:12]} names source commit {last.commit}, which the source has not",
            "name the right repository with --source",
        )
    return graph.read(request.source_store, last.commit)


def imported(request: Request, source: History, trees: Trees) -> tuple[list[Segment], History]:
    prefix = request.rules.target.prefix.encode()
    if request.rules.target.layout == "merge":
        found = graph.read(request.store, request.joins[-1].tip)
        return [Segment(source.oids, Roots(prefix), images=found.oids)], found
    return Line(request, source, trees, prefix).segments()


class Line:
    """Layout linear: each record ends a line of images that stands on the host's."""

    def __init__(self, request: Request, source: History, trees: Trees, prefix: bytes) -> None:
        self.request, self.source, self.trees, self.prefix = request, source, trees, prefix
        self.ancestry = graph.Ancestry(source)
        self.records = {join.oid for join in request.joins}

    def segments(self) -> tuple[list[Segment], History]:
        segments, done = list[Segment](), set[str]()
        with self.request.store.objects() as objects:
            for join in self.request.joins:
                new = [
                    oid for oid in self.source.oids if self._brought(oid, join) and oid not in done
                ]
                done |= set(new)
                segments.append(self._segment(objects, join, new, first=not segments))
        everything = [oid for segment in segments for oid in segment.images]
        return segments, graph.read_these(self.request.store, everything)

    def _brought(self, oid: str, join: Join) -> bool:
        if join.commit not in self.source:
            return False
        return oid == join.commit or self.ancestry.is_ancestor(oid, join.commit)

    def _segment(self, objects: ObjectReader, join: Join, new: list[str], first: bool) -> Segment:
        """Down from the record: as long as the prefix is there, and for later ones by count."""
        images: list[str] = []
        at = join.tip
        while at and at not in self.records:
            parts = self._parts(objects, at)
            there = self.trees.tree_at(parts.tree, self.prefix) != EMPTY
            if len(images) >= len(new) and not (first and there):
                break
            if first and not there and not self._may_be_empty(new):
                break
            images.append(at)
            at = parts.parents[0] if parts.parents else ""
        base = self._parts(objects, at).tree if at else EMPTY
        return Segment(new, Roots(self.prefix, self.trees, base), at, images[::-1])

    def _may_be_empty(self, new: list[str]) -> bool:
        return any(self.source.parts(oid).tree == EMPTY for oid in new)

    def _parts(self, objects: ObjectReader, oid: str) -> Parts:
        return graph.split(objects.read(oid)[1])
