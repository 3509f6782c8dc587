# SPDX-License-Identifier: Apache-2.0
"""Who certified what: commits without their author's sign-off, and the text that mends it.

Owns the rules of the Developer Certificate of Origin as checks apply them. Knows nothing of hosts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from .git import Commit

SIGNED = re.compile(rb"^Signed-off-by: [^\n]*<([^<>\n]*)>[ \t\r]*$", re.MULTILINE | re.IGNORECASE)
REMEDY = re.compile(rb"hereby add my Signed-off-by to this commit: ([0-9a-f]{40})")


@dataclass(frozen=True)
class Unsigned:
    """One author and the commits nobody signed off for."""

    name: bytes
    email: bytes
    commits: list[str] = field(repr=False)
    subjects: list[bytes] = field(repr=False)
    remedied: list[str] = field(repr=False)  # by a later remediation commit of the same author


def person(line: bytes) -> tuple[bytes, bytes]:
    name, _, rest = line.partition(b"<")
    return name.strip(), rest.partition(b">")[0].strip()


def unsigned(commits: Iterable[tuple[str, Commit]]) -> list[Unsigned]:
    """By author, most commits first; merges are not asked, as checks on forges do not either."""
    lacking: dict[bytes, list[tuple[str, bytes]]] = {}
    names: dict[bytes, bytes] = {}
    remedied: dict[bytes, set[str]] = {}
    for oid, commit in commits:
        name, email = person(commit.author)
        by = email.lower()
        for found in REMEDY.findall(commit.message):
            remedied.setdefault(by, set()).add(found.decode())
        if len(commit.parents) < 2 and not is_signed(commit, by):
            names[by] = name
            lacking.setdefault(by, []).append((oid, commit.subject))
    made = [_of(names[by], by, found, remedied.get(by, set())) for by, found in lacking.items()]
    return sorted(made, key=lambda who: (-len(who.commits), who.email))


def is_signed(commit: Commit, email: bytes) -> bool:
    return any(found.strip().lower() == email for found in SIGNED.findall(commit.message))


def _of(name: bytes, email: bytes, found: list[tuple[str, bytes]], remedied: set[str]) -> Unsigned:
    oids = [oid for oid, _ in found]
    subjects = [subject for _, subject in found]
    return Unsigned(name, email, oids, subjects, [oid for oid in oids if oid in remedied])


def open_commits(people: list[Unsigned]) -> int:
    """Neither signed off nor remedied."""
    return sum(len(who.commits) - len(who.remedied) for who in people)


def text(who: Unsigned, images: dict[str, str]) -> bytes:
    """A message for one empty commit by this author, naming what is in the host: the images."""
    full = who.name + b" <" + who.email + b">"
    lines = [b"DCO Remediation Commit for " + full, b""]
    for oid in who.commits:
        image = images[oid].encode()
        lines.append(b"I, " + full + b", hereby add my Signed-off-by to this commit: " + image)
    lines += [b"", b"Signed-off-by: " + full, b""]
    return b"\n".join(lines)
