# SPDX-License-Identifier: Apache-2.0
"""Memory maps of this process that a library made, by the file they are of.

Must not know what is in the files.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Collection, Iterator
from pathlib import Path

MAPS = Path("/proc/self/maps")


def drop_pages(file: Path, addresses: Collection[int]) -> None:
    """Let go of the pages of those maps of `file` that hold one of `addresses`; they are read again
    where they are used.

    What was written to a private map is lost, so others' maps of the file must be left alone: they
    may hold weights that were changed. Does nothing where the system does not tell its maps.
    """
    if not MAPS.is_file() or not hasattr(mmap, "MADV_DONTNEED"):
        return
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    for start, end in _spans(os.fsencode(file.resolve())):
        if any(start <= address < end for address in addresses):
            madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)


def _spans(path: bytes) -> Iterator[tuple[int, int]]:
    """Addresses of the maps of this very path: memory without a file would come back as zeros."""
    for line in MAPS.read_bytes().split(b"\n"):  # a file's name need not be text
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5] == path:
            start, end = fields[0].split(b"-")
            yield int(start, 16), int(end, 16)
