# SPDX-License-Identifier: Apache-2.0
"""Which commit of the host is the image of which source commit, also where images are wrong.

An image that is what it must be has its id. Where one is wrong, its successors still are what
they must be on top of it; the wrong one itself is found by what is left of it: its place, tree,
author, committer or message. Owns this pairing. It must not judge.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from .graph import History, Parts
from .identity import Imaging, Segment

LIKE_ENOUGH = 2  # of the five features


@dataclass
class Pairing:
    images: dict[str, str] = field(default_factory=dict)  # source -> image
    missing: list[str] = field(default_factory=list)  # sources without an image
    strays: list[str] = field(default_factory=list)  # images without a source
    shared: list[tuple[str, str]] = field(default_factory=list)  # source, image of another


def pair(
    imaging: Imaging, segments: list[Segment], found: History, wanted: dict[str, str]
) -> Pairing:
    pairing = Pairing()
    for segment in segments:
        _Aligner(imaging, segment, found, wanted, pairing).run()
    used = set(pairing.images.values())
    for segment in segments:
        pairing.strays += [oid for oid in segment.images if oid not in used]
    return pairing


class _Aligner:
    def __init__(
        self,
        imaging: Imaging,
        segment: Segment,
        found: History,
        wanted: dict[str, str],
        pairing: Pairing,
    ) -> None:
        self.imaging, self.segment, self.found = imaging, segment, found
        self.wanted, self.pairing = wanted, pairing
        self.here = set(segment.images)
        self.used: dict[str, str] = {}
        self._index: dict[tuple[str, object], list[str]] | None = None
        self._claimed: dict[tuple[bytes, bytes, str], int] = {}

    def run(self) -> None:
        before = self.segment.base
        for oid in self.segment.sources:
            image = self._exact(oid, before) or self._alike(oid, before)
            if image is None:
                self.pairing.missing.append(oid)
            elif image in self.used:
                self.pairing.shared.append((oid, image))
                self.pairing.images[oid] = image
            else:
                self.used[image] = oid
                self.pairing.images[oid] = image
                before = image

    def _exact(self, oid: str, before: str) -> str | None:
        if self.wanted[oid] in self.here:
            return self.wanted[oid]
        parts = self.imaging.history.parts(oid)
        made = self.imaging.image(oid, parts, self.segment.roots, before, self.pairing.images)
        return made[0] if made and made[0] in self.here else None

    def _alike(self, oid: str, before: str) -> str | None:
        """The unused image with most in common, unless it is another source commit's entirely."""
        parts = self.imaging.history.parts(oid)
        features = self._source_features(oid, parts, before)
        scores: dict[str, int] = defaultdict(int)
        for feature in features:
            for image in self.index.get(feature, ()):
                if image not in self.used:
                    scores[image] += 1
        good = [image for image, score in scores.items() if score >= LIKE_ENOUGH]
        good = [image for image in good if not self._belongs_elsewhere(oid, image)]
        return max(good, key=lambda image: scores[image], default=None)

    def _source_features(self, oid: str, parts: Parts, before: str) -> list[tuple[str, object]]:
        images = self.pairing.images
        message = self.imaging.message(oid, parts, lambda one: images.get(one, one))
        return [
            ("parents", self.imaging.parents(parts, before, images)),
            ("tree", self.imaging.tree(parts, self.segment.roots)),
            ("author", parts.author),
            ("committer", parts.committer),
            ("message", message),
        ]

    @property
    def index(self) -> dict[tuple[str, object], list[str]]:
        if self._index is None:
            self._index = defaultdict(list)
            for image in self.segment.images:
                if image not in self.used:
                    for feature in _features(self.found.parts(image)):
                        self._index[feature].append(image)
            self._claim()
        return self._index

    def _claim(self) -> None:
        """How many sources without an image have this author, committer and tree."""
        self._claimed = defaultdict(int)
        for oid in self.segment.sources:
            if oid not in self.pairing.images:
                self._claimed[self._identity(oid)] += 1

    def _identity(self, oid: str) -> tuple[bytes, bytes, str]:
        parts = self.imaging.history.parts(oid)
        return parts.author, parts.committer, self.imaging.tree(parts, self.segment.roots)

    def _belongs_elsewhere(self, oid: str, image: str) -> bool:
        parts = self.found.parts(image)
        identity = (parts.author, parts.committer, parts.tree)
        return identity != self._identity(oid) and self._claimed.get(identity, 0) > 0


def _features(parts: Parts) -> list[tuple[str, object]]:
    return [
        ("parents", parts.parents),
        ("tree", parts.tree),
        ("author", parts.author),
        ("committer", parts.committer),
        ("message", parts.message),
    ]
