# SPDX-License-Identifier: Apache-2.0
"""Blame of every line below the prefix, seen through replace refs, against the imported history.

Everything else of the tool ignores replace refs; this is the one place that looks through them.
Owns that comparison; it must not know why a commit was replaced.
"""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from .git import Repository, environment
from .progress import Progress

WORKERS = 2
ID = 40


@dataclass
class Proof:
    files: int = 0
    lines: int = 0
    wrong: dict[bytes, int] = field(default_factory=dict)


def through(repository: Repository, squash: str, tip: str, prefix: bytes) -> Proof:
    """Files that the squash edited are blamed on it for the edited lines only, which is right."""
    listed = repository.git("ls-tree", "-r", "-z", tip, "--", b":(top,literal)" + prefix)
    paths = [line.partition(b"\t")[2] for line in listed.split(b"\0")[:-1] if line[:3] == b"100"]
    proof = Proof()
    with ThreadPoolExecutor(WORKERS) as pool, Progress("blame", len(paths)) as files:
        compared = pool.map(lambda path: _compare(repository, squash, tip, path), paths)
        for path, (lines, wrong) in zip(paths, compared, strict=True):
            proof.files += 1
            proof.lines += lines
            if wrong:
                proof.wrong[path] = wrong
            files.advance()
    return proof


def _compare(repository: Repository, squash: str, tip: str, path: bytes) -> tuple[int, int]:
    there, here = _blame(repository, tip, path), _blame(repository, squash, path)
    if len(there) != len(here):
        return len(there), max(1, abs(len(there) - len(here)))
    return len(there), sum(one != other for one, other in zip(there, here, strict=True))


def _blame(repository: Repository, commit: str, path: bytes) -> list[bytes]:
    """The commit of each line; a file that is not there has none."""
    env = environment()
    del env["GIT_NO_REPLACE_OBJECTS"]
    done = subprocess.run(
        ["git", "blame", "-l", "-s", "--root", commit, "--", path],
        cwd=repository.path,
        env=env,
        capture_output=True,
        check=False,
    )
    return [line[:ID] for line in done.stdout.split(b"\n")[:-1]] if not done.returncode else []
