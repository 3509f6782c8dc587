# SPDX-License-Identifier: Apache-2.0
"""New objects written as one pack: names by hashing here, storage by `git index-pack`.

Owns the pack format, without deltas. Knows nothing of what the objects mean.
"""

from __future__ import annotations

import hashlib
import struct
import subprocess
import tempfile
import zlib
from pathlib import Path

from .errors import GitFailed
from .git import Repository, environment

KINDS = {b"commit": 1, b"tree": 2, b"blob": 3}
# Small objects gain little from more effort.
EFFORT = 1
HEADER_SIZE = 12


def oid_of(kind: bytes, data: bytes) -> str:
    return hashlib.sha1(b"%s %d\0%s" % (kind, len(data), data), usedforsecurity=False).hexdigest()


def entry_header(kind: bytes, size: int) -> bytes:
    """Three bits of kind and a size of four bits, then seven in each further byte."""
    byte = (KINDS[kind] << 4) | (size & 15)
    size >>= 4
    header = bytearray()
    while size:
        header.append(byte | 128)
        byte, size = size & 127, size >> 7
    header.append(byte)
    return bytes(header)


class PackWriter:
    """`write` gives an object's id at once; `finish` makes all of them part of the repository."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by finish
        self._file.write(b"\0" * HEADER_SIZE)
        self._written: set[str] = set()

    def write(self, kind: bytes, data: bytes) -> str:
        oid = oid_of(kind, data)
        if oid not in self._written:
            self._written.add(oid)
            self._file.write(entry_header(kind, len(data)) + zlib.compress(data, EFFORT))
        return oid

    def finish(self) -> None:
        if self._written:
            self._seal()
            self._index()
        self._file.close()

    def _seal(self) -> None:
        self._file.seek(0)
        self._file.write(b"PACK" + struct.pack(">II", 2, len(self._written)))
        self._file.seek(0)
        digest = hashlib.sha1(usedforsecurity=False)
        while block := self._file.read(1 << 20):
            digest.update(block)
        self._file.write(digest.digest())
        self._file.flush()

    def _index(self) -> None:
        self._file.seek(0)
        command = ["git", "index-pack", "--stdin"]
        where: Path = self._repository.path
        done = subprocess.run(
            command,
            cwd=where,
            env=environment(),
            stdin=self._file,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().replace("\n", " / ")
            raise GitFailed(f"git index-pack in {where}: exit {done.returncode}: {said}")
