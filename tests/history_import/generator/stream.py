# SPDX-License-Identifier: Apache-2.0
"""A small writer of fast-import streams, for what is too large to be kept in memory or not SHA-1.

Owns the stream's grammar. It must not know which history is written.
"""

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from .objects import EMPTY_ENVIRONMENT, run_git

PERSON = b"Ada Example <ada@example.org>"


class Stream:
    """Marks are handed out in order; a commit lists the blobs it changes by their marks."""

    def __init__(self, sink: IO[bytes]) -> None:
        self._sink = sink
        self._mark = 0

    def _next(self) -> int:
        self._mark += 1
        return self._mark

    def blob(self, data: bytes) -> int:
        mark = self._next()
        self._sink.write(b"blob\nmark :%d\ndata %d\n%b\n" % (mark, len(data), data))
        return mark

    def commit(
        self,
        branch: bytes,
        when: bytes,
        message: bytes,
        changes: Iterable[tuple[bytes, int]],
        parents: Iterable[int],
        person: bytes = PERSON,
    ) -> int:
        mark = self._next()
        who = person + b" " + when
        self._sink.write(
            b"commit refs/heads/%b\nmark :%d\nauthor %b\ncommitter %b\ndata %d\n%b\n"
            % (branch, mark, who, who, len(message), message)
        )
        for word, parent in zip((b"from", *[b"merge"] * 99), parents, strict=False):
            self._sink.write(b"%b :%d\n" % (word, parent))
        for path, blob in changes:
            self._sink.write(b"M 100644 :%d %b\n" % (blob, path))
        self._sink.write(b"\n")
        return mark

    def drop(self, branch: bytes) -> None:
        self._sink.write(b"reset refs/heads/%b\nfrom %b\n\n" % (branch, b"0" * 40))


def fast_import(repository: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        ["git", "fast-import", "--quiet", "--date-format=raw-permissive", "--depth=10"],
        cwd=repository,
        stdin=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], **EMPTY_ENVIRONMENT},
    )


def sha256_source(folder: Path) -> Path:
    """Two commits in a repository of the other object format."""
    run_git(
        None,
        "init",
        "--quiet",
        "--bare",
        "--template=",
        "--initial-branch=main",
        "--object-format=sha256",
        str(folder),
    )
    importer = fast_import(folder)
    assert importer.stdin is not None
    stream = Stream(importer.stdin)
    parents: list[int] = []
    for n in range(2):
        blob = stream.blob(b"%d\n" % n)
        parents = [
            stream.commit(
                b"main", b"%d +0000" % (1773300000 + n), b"n %d\n" % n, [(b"n.txt", blob)], parents
            )
        ]
    importer.stdin.close()
    if importer.wait():
        raise RuntimeError("fast-import failed")
    return folder
