# SPDX-License-Identifier: Apache-2.0
"""One run of an import at a time, by a lock that ends with the process, however it ends.

Owns the file beside the scratch folder and what it says. Knows nothing of what a run does.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from .errors import Refused
from .git import Repository


@contextlib.contextmanager
def alone(name: str, verb: str, host: Repository) -> Iterator[None]:
    folder = host.common_dir() / "history-import"
    path = folder / f"{name}.lock"
    try:
        folder.mkdir(exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise Refused(
            f"cannot write in {folder}: {error.strerror}",
            "the host's git directory must be writable",
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Refused(
                f"another run of {name!r} is at work ({file.read() or 'just begun'})",
                "let it end or stop it",
            ) from None
        file.truncate(0)
        file.write(f"{verb}, process {os.getpid()}")
        file.flush()
        yield
