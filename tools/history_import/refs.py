# SPDX-License-Identifier: Apache-2.0
"""All refs of one operation in one transaction, each with the value it must have before.

Owns how refs are named and moved. Knows nothing of what they point to.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from dataclasses import dataclass
from typing import IO

from .errors import Refused
from .git import Repository, environment
from .steps import at

ABSENT = "0" * 40


@dataclass(frozen=True)
class RefUpdate:
    name: str
    new: str | None  # None deletes
    old: str | None  # None: must not exist

    @property
    def line(self) -> bytes:
        return f"update {self.name} {self.new or ABSENT} {self.old or ABSENT}\n".encode()


def branch(name: str) -> str:
    return f"refs/heads/{name}"


def imports(name: str, what: str = "") -> str:
    return f"refs/imports/{name}/{what}"


def backup(name: str, base: str) -> str:
    return f"refs/backup/history-import/{name}/{base}"


def current(host: Repository, name: str) -> str | None:
    """The value of exactly this ref; a longer name that begins with it is another ref."""
    return host.refs(name).get(os.fsencode(name))


def plan(host: Repository, wanted: dict[str, str]) -> list[RefUpdate]:
    """Updates for the refs that are not yet as wanted, expecting what they are now."""
    now = {name: current(host, name) for name in wanted}
    return [RefUpdate(n, new, now[n]) for n, new in wanted.items() if now[n] != new]


def transaction(host: Repository, updates: list[RefUpdate]) -> None:
    """Prepared, then committed: ending the process in between leaves every ref as it was."""
    if not updates:
        return
    process = subprocess.Popen(
        ["git", "update-ref", "--no-deref", "--stdin"],
        cwd=host.path,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin and process.stdout
    with contextlib.suppress(BrokenPipeError):  # what git said about it is read below
        _exchange(process.stdin, process.stdout, updates)
    _, said = process.communicate()
    if process.returncode:
        line = said.decode(errors="replace").strip().replace("\n", " / ")
        raise Refused(f"the refs were not moved: {line}", "someone else moved one; run again")
    at("refs.committed")


def _exchange(ask: IO[bytes], answer: IO[bytes], updates: list[RefUpdate]) -> None:
    at("refs.before")
    _say(ask, b"start\n")
    if answer.readline() != b"start: ok\n":
        return
    at("refs.started")
    for update in updates:
        _say(ask, update.line)
        at("refs.queued")
    _say(ask, b"prepare\n")
    if answer.readline() != b"prepare: ok\n":
        return
    at("refs.prepared")
    _say(ask, b"commit\n")
    answer.readline()


def _say(ask: IO[bytes], line: bytes) -> None:
    ask.write(line)
    ask.flush()
