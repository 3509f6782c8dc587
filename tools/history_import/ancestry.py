# SPDX-License-Identifier: Apache-2.0
"""Whether a later import contains the earlier one, and where and why it does not.

Recomputing gives every earlier id again unless the source, a rule or the engine changed. Owns that
comparison; it must not know how the two are then merged.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from .closure import Closure
from .config import Config
from .engines import Rewritten
from .errors import Refused
from .git import Commit, Repository
from .record import Record

SIGNED_HEADERS = (b"gpgsig", b"gpgsig-sha256", b"mergetag")


@dataclass(frozen=True)
class Found:
    """`repository` can read the host's, the source's and the new objects."""

    repository: Repository
    config: Config
    earlier: Record
    closure: Closure
    rewritten: Rewritten

    def require(self) -> None:
        image = self.rewritten.images.get(self.earlier.source_commit)
        if image == self.earlier.tip:
            return
        if image is None:
            raise self._gone()
        raise self._changed()

    def _gone(self) -> Refused:
        """The imported commit is no ancestor of the pin: forced back, or the pin goes back."""
        was, pin = self.earlier.source_commit, self.config.source.pin
        if self._has(was) and self.repository.is_ancestor(pin, was):
            return Refused(
                f"source.pin {pin[:12]} is older than {was[:12]}, which is imported",
                "pin a later commit; going back is a revert in the host",
            )
        return Refused(
            f"the source was force-pushed: {was}, which is imported, is no ancestor of the pin "
            f"{pin}; the first commit that differs is {self._first_gone()}",
            "pin a commit that has it, or import again beside it under another name",
        )

    def _has(self, oid: str) -> bool:
        return self.repository.code("cat-file", "-e", f"{oid}^{{commit}}") == 0

    def _first_gone(self) -> str:
        """By the original's id where the host kept it, else by the image's."""
        was = self.earlier.source_commit
        if self._has(was):
            return self._named(self._first(was, set(self.closure.oids)))
        return self._named(self._first(self.earlier.tip, set(self.rewritten.images.values())))

    def _first(self, tip: str, known: set[str]) -> str:
        listed = self.repository.git("rev-list", "--topo-order", "--reverse", tip, "--")
        return next(oid for oid in listed.decode().split() if oid not in known)

    def _named(self, oid: str) -> str:
        with self.repository.objects() as objects:
            subject = objects.commit(oid).subject
        return f"{oid} ({subject.decode(errors='backslashreplace')})"

    def _changed(self) -> Refused:
        """The same source commit has another image: a rule or the engine is not what it was."""
        listed = self.repository.git("rev-list", "--topo-order", "--reverse", self.earlier.tip)
        old = listed.decode().split()
        known, images = set(old), self.rewritten.images
        reached = self.closure.ancestors_of(self.earlier.source_commit)
        source = next(oid for oid in reached if images[oid] not in known)
        then = self._counterpart(old, source)
        digest = f"sha256:{self.earlier.config[:12]}, now sha256:{self.config.digest[:12]}"
        return Refused(
            f"the import no longer gives the ids that it gave: the first commit that differs is "
            f"{self._named(source)}, image {then[:12] or 'unknown'} then, {images[source][:12]} "
            f"now; {self._reason(then, images[source])} (configuration {digest})",
            "use the configuration of then for everything but source.pin and target.detached",
        )

    def _counterpart(self, old: list[str], source: str) -> str:
        """The old image of `source`: the same parents and the same people."""
        made = set(self.rewritten.images.values())
        with self.repository.objects() as objects:
            new = objects.commit(self.rewritten.images[source])
            for oid in old:
                commit = objects.commit(oid)
                same = (commit.parents, commit.author, commit.committer)
                if oid not in made and same == (new.parents, new.author, new.committer):
                    return oid
        return ""

    def _reason(self, then: str, now: str) -> str:
        if not then:
            return "nothing in the host corresponds to it"
        with self.repository.objects() as objects:
            old, new = objects.commit(then), objects.commit(now)
        return "; ".join(self._reasons(old, new))

    def _reasons(self, old: Commit, new: Commit) -> list[str]:
        found = []
        if old.message != new.message:
            found.append("its message differs, so a rule in [messages] changed")
        if old.tree != new.tree:
            found.append("its tree differs, so target.prefix or the engine changed")
        if names := self._other_headers(old, new):
            engines = f"{', '.join(self.earlier.engines)} then, {', '.join(self.rewritten.engines)}"
            found.append(f"its header {names} differs, so the engine changed ({engines} now)")
        return found

    def _other_headers(self, old: Commit, new: Commit) -> str:
        differing = set(old.headers) ^ set(new.headers)
        names = {key for key, _value in differing} - {b"tree", b"parent", *SIGNED_HEADERS}
        return ", ".join(sorted(os.fsdecode(name) for name in names))
