# SPDX-License-Identifier: Apache-2.0
"""What the image of a source commit must be, to the byte, and hence its id.

Owns verify's own recomputation; no code of the writer is used. Knows nothing of what was found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..config import Config
from ..progress import Progress
from .graph import Ancestry, History, Parts, assemble, key_of, object_id
from .messages import Mention, mentions, rewritten
from .trees import Normalised, Roots

# A signature is of the source's object and can be of no other.
SIGNATURES = (b"gpgsig", b"gpgsig-sha256", b"mergetag")
KEPT_BY_FILTER_REPO = (b"encoding",)


@dataclass
class Segment:
    """Source commits that came by one way: all of them, or in layout linear those of one record."""

    sources: list[str]
    roots: Roots
    base: str = ""  # linear: the host commit that the first image stands on
    images: list[str] = field(default_factory=list)  # what was found


class Imaging:
    def __init__(self, rules: Config, history: History, trees: Normalised | None) -> None:
        self.rules = rules
        self.history = history
        self.linear = rules.target.layout == "linear"
        self.ancestry = Ancestry(history)
        self._trees = trees  # only where the engine is known to normalise
        self._mentions: dict[str, list[Mention]] = {}

    def tree(self, parts: Parts, roots: Roots) -> str:
        return roots.root(self._trees.tree(parts.tree) if self._trees else parts.tree)

    def inside(self, parts: Parts) -> str:
        """The tree at the prefix."""
        return self._trees.tree(parts.tree) if self._trees else parts.tree

    def extra(self, parts: Parts) -> tuple[bytes, ...]:
        keys = [(key_of(header), header) for header in parts.extra]
        if self.rules.engine.use == "filter-repo":
            return tuple(header for key, header in keys if key in KEPT_BY_FILTER_REPO)
        return tuple(header for key, header in keys if key not in SIGNATURES)

    def mentions(self, oid: str, message: bytes) -> list[Mention]:
        if not self.rules.messages.translate_hashes:
            return []
        if oid not in self._mentions:
            found = mentions(message, lambda prefix: self.ancestry.abbreviated(prefix, oid))
            if not found:
                return found
            self._mentions[oid] = found
        return self._mentions[oid]

    def message(self, oid: str, parts: Parts, images: Callable[[str], str]) -> bytes | None:
        if parts.message is None:
            return None
        found = self.mentions(oid, parts.message)
        return rewritten(parts.message, self.rules.messages, found, images)

    def parents(
        self, parts: Parts, before: str, images: Mapping[str, str]
    ) -> tuple[str | None, ...]:
        """Of the image; `before` is the previous image on the host's line, in layout linear."""
        return (before,) if self.linear else tuple(images.get(oid) for oid in parts.parents)

    def image(
        self, oid: str, parts: Parts, roots: Roots, before: str, images: Mapping[str, str]
    ) -> tuple[str, Parts] | None:
        """Id and parts on the given images of its ancestors; nothing if one of them has none."""
        parents = self.parents(parts, before, images)
        if any(parent is None for parent in parents):
            return None
        try:
            message = self.message(oid, parts, images.__getitem__)
        except KeyError:
            return None
        made = Parts(
            self.tree(parts, roots),
            tuple(parent for parent in parents if parent),
            parts.author,
            parts.committer,
            self.extra(parts),
            message,
        )
        return object_id(b"commit", assemble(made)), made


def expected(imaging: Imaging, segments: list[Segment]) -> dict[str, str]:
    """Every image's id from the source alone (and, in layout linear, the commit it stands on)."""
    images: dict[str, str] = {}
    with Progress("ids recomputed", len(imaging.history)) as progress:
        for segment in segments:
            before = segment.base
            for oid in segment.sources:
                progress.advance()
                found = imaging.image(
                    oid, imaging.history.parts(oid), segment.roots, before, images
                )
                assert found, "parents come first"
                images[oid] = before = found[0]
    return images
