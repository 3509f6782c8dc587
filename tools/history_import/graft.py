# SPDX-License-Identifier: Apache-2.0
"""The tree graft: each commit again, the tree wrapped in the prefix, the parents replaced.

Works on raw commit objects, so headers, encodings and zones nobody expected stay as they are. Owns
what an image is; knows nothing of git-filter-repo, of which it is the independent check.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from . import messages, trees
from .closure import Closure
from .errors import Refused
from .git import ObjectReader, TreeEntry
from .messages import Rewrite, Rules
from .packs import PackWriter
from .progress import Progress

VERSION = "graft 1"
# A signature covers the object it was made for; an image is another object.
SIGNATURES = re.compile(rb"\n(?:gpgsig|gpgsig-sha256|mergetag) [^\n]*(?:\n [^\n]*)*")

# The id of the image's tree for the id of a source commit's tree.
Wrap = Callable[[str], str]


@dataclass
class Grafted:
    images: dict[str, str] = field(default_factory=dict)
    rewrites: dict[str, Rewrite] = field(default_factory=dict)


class Wrapper:
    """One level of tree per component of the prefix around a source tree.

    `levels` are the host's entries beside the prefix, outermost first, for the linear layout; in
    the merge layout there are none. A source tree without any entry gives no folder at all, since
    neither an index nor git-filter-repo can hold an empty one.
    """

    def __init__(
        self, writer: PackWriter, prefix: bytes, levels: list[list[TreeEntry]] | None = None
    ):
        parts = prefix.split(b"/")
        self._writer = writer
        self._levels = list(zip(parts, levels or [[] for _ in parts], strict=True))[::-1]
        self._known: dict[str, str] = {}

    def __call__(self, tree: str) -> str:
        if tree not in self._known:
            self._known[tree] = self._wrapped(tree)
        return self._known[tree]

    def _wrapped(self, tree: str) -> str:
        for name, beside in self._levels:
            inner = [] if tree == trees.EMPTY_TREE else [TreeEntry(trees.TREE, name, tree)]
            tree = self._writer.write(b"tree", trees.serialize(beside + inner))
        return tree


def levels_beside(objects: ObjectReader, root: str, prefix: bytes) -> list[list[TreeEntry]]:
    """The host's entries on each level of the prefix that are not on the way to it."""
    levels: list[list[TreeEntry]] = []
    tree: str | None = root
    for part in prefix.split(b"/"):
        entries = objects.tree(tree) if tree and tree != trees.EMPTY_TREE else []
        levels.append([entry for entry in entries if entry.name != part])
        tree = next((entry.oid for entry in entries if entry.name == part and entry.is_tree), None)
    return levels


class Graft:
    """One pass over a closure, parents first, so that every parent's image is known."""

    def __init__(self, closure: Closure, rules: Rules, references: dict[str, dict[str, str]]):
        self.closure, self.rules, self.references = closure, rules, references
        self.result = Grafted()
        self._images: list[bytes] = []
        self._owner: dict[str, str] = {}

    def run(self, writer: PackWriter, wrap: Wrap, onto: str | None = None) -> Grafted:
        """`onto`: the host commit on which a source without merges is stacked."""
        with Progress("graft", len(self.closure)) as commits:
            for index, oid in enumerate(self.closure.oids):
                image = writer.write(b"commit", self._image_data(index, oid, wrap, onto))
                self._remember(oid, image)
                commits.advance()
        return self.result

    def _image_data(self, index: int, oid: str, wrap: Wrap, onto: str | None) -> bytes:
        head, separator, message = self.closure.raw[index].partition(b"\n\n")
        tree, rest = head[5:45].decode("ascii"), head[45:]
        parents = self.closure.parents[index]
        # "\nparent " and 40 digits, as often as there are parents.
        rest = SIGNATURES.sub(b"", rest[48 * len(parents) :])
        lines = [b"\nparent " + self._images[parent] for parent in parents]
        if onto and not parents:
            lines = [b"\nparent " + onto.encode()]
        message = self._message(oid, message)
        return b"tree " + wrap(tree).encode() + b"".join(lines) + rest + separator + message

    def _message(self, oid: str, message: bytes) -> bytes:
        if self.rules.empty:
            return message
        named = self.references.get(oid, {})
        images = self.result.images

        def image_of(text: bytes) -> bytes | None:
            source = named.get(text.decode("ascii"))
            return images[source].encode() if source else None

        rewrite = messages.rewrite(message, self.rules, image_of)
        if rewrite.message != message:
            self.result.rewrites[oid] = rewrite
        return rewrite.message

    def _remember(self, oid: str, image: str) -> None:
        if image in self._owner:
            raise Refused(
                f"source commits {self._owner[image]} and {oid} have the same image {image}: they "
                "differ only in a signature",
                "pin a commit whose history has one of them",
            )
        self._owner[image] = oid
        self._images.append(image.encode())
        self.result.images[oid] = image


def rules_of(qualify: str, defuse: bool, translate: bool) -> Rules:
    return Rules(qualify.encode(), defuse, translate)
