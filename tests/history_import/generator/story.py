# SPDX-License-Identifier: Apache-2.0
"""A history told commit by commit: the files as they are now, people, and a clock.

Owns dates and default people. It must not know what a story is told for.
"""

from collections.abc import Iterable
from pathlib import Path

from .objects import Workshop, init

ADA = b"Ada Example <ada@example.org>"
BEN = b"Ben Beispiel <ben@example.net>"
FORGE = b"Forge <noreply@forge.example>"
START = 1773300000  # 2026-03-12
HOUR = 3600


class Story:
    """``files`` is the present state; ``commit`` makes a snapshot of it on top of ``head``."""

    def __init__(self, start: int = START) -> None:
        self.workshop = Workshop()
        self.files: dict[bytes, tuple[bytes, bytes]] = {}
        self.head: list[str] = []
        self.refs: dict[str, str] = {}
        self.clock = start

    def put(self, path: bytes, data: bytes, mode: bytes = b"100644") -> None:
        self.files[path] = (mode, data)

    def move(self, old: bytes, new: bytes) -> None:
        self.files[new] = self.files.pop(old)

    def stamp(self, zone: bytes = b"+0000") -> bytes:
        return b" %d %s" % (self.clock, zone)

    def commit(
        self,
        message: bytes,
        *,
        parents: Iterable[str] | None = None,
        author: bytes = ADA,
        committer: bytes | None = None,
        zone: bytes = b"+0800",
        headers: Iterable[tuple[bytes, bytes]] = (),
        tree: str | None = None,
        stamp: bytes | None = None,
    ) -> str:
        self.clock += HOUR
        when = self.stamp(zone) if stamp is None else stamp
        over = self.head if parents is None else list(parents)
        oid = self.workshop.commit(
            tree or self.workshop.tree(self.files),
            over,
            author + when,
            (committer or author) + when,
            message,
            headers,
        )
        self.head = [oid]
        return oid

    def at(self, commit: str, files: dict[bytes, tuple[bytes, bytes]]) -> None:
        """Go on from ``commit``, whose files were ``files``."""
        self.head, self.files = [commit], dict(files)

    def source(self, folder: Path) -> Path:
        """The story as a bare repository whose main is the present head."""
        refs = {"refs/heads/main": self.head[0], **self.refs}
        return init(folder, refs, self.workshop, bare=True)


def text(name: str, lines: int, changed: int = 0, word: str = "line") -> bytes:
    """``lines`` lines that differ between names; the one numbered ``changed`` says so."""
    return b"".join(
        b"%s %s %d%s\n" % (name.encode(), word.encode(), n, b" changed" if n == changed else b"")
        for n in range(1, lines + 1)
    )
