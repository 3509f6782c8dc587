# SPDX-License-Identifier: Apache-2.0
"""Which commits of a ref brought an import, found in the graph and their trailers alone.

Owns the reading of trailers, what the imported side of a join is, and the configuration that a
join names. It must not read the source nor judge what it finds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .. import config as configuration
from ..config import Config
from ..errors import Refused
from ..git import Repository
from .graph import Parts, split

TRAILER = re.compile(rb"History-Import-([A-Za-z-]+): ([^\n]*)")
ANYWHERE = re.compile(rb"^[ \t>*-]*History-Import-Name: ([^\r\n]*?)[ \t]*\r?$", re.MULTILINE)
TIP_ANYWHERE = re.compile(rb"^[ \t>*-]*History-Import-Tip: ([0-9a-f]{40})", re.MULTILINE)
NEEDED = ("Name", "Kind", "Commit", "Tip", "Commits", "Config")


@dataclass(frozen=True)
class Join:
    oid: str
    parts: Parts
    trailers: dict[str, str]
    through: str = ""  # the commit that a replace ref puts in its place

    @property
    def linear(self) -> bool:
        """A record at the end of a line of images, not a merge."""
        return len(self.parts.parents) == 1

    @property
    def sound(self) -> bool:
        """It describes its own parents."""
        return self.trailers["Tip"] in self.parts.parents

    @property
    def host(self) -> str:
        """The host's former tip; with the parents the wrong way round, what stands in its place."""
        return self.parts.parents[0]

    @property
    def tip(self) -> str:
        """The imported side: the parent that the trailer names, else the last one."""
        return self.trailers["Tip"] if self.sound else self.parts.parents[-1]

    @property
    def commit(self) -> str:
        return self.trailers["Commit"]

    @property
    def kind(self) -> str:
        return self.trailers["Kind"]

    @property
    def digest(self) -> str:
        return self.trailers["Config"].removeprefix("sha256:")

    @property
    def hand_made(self) -> bool:
        return self.trailers.get("Resolution") == "hand-made"

    def line(self) -> str:
        made = f"{self.kind} of {self.commit[:12]} by {self.oid[:12]}"
        rescued = f", landed by a squash, rescued by refs/replace/{self.oid}"
        return made + (rescued if self.through else "")


@dataclass(frozen=True)
class Found:
    joins: list[Join]  # oldest first
    without_history: list[str]  # commits that speak of the import and do not have it


def trailers(message: bytes) -> dict[str, str]:
    last = message.rstrip(b"\n").rpartition(b"\n\n")[2]
    pairs = (TRAILER.fullmatch(line) for line in last.split(b"\n"))
    return {m[1].decode(): m[2].decode("utf-8", "replace") for m in pairs if m}


def find(store: Repository, tip: str, name: str) -> Found:
    """What the imported history itself says about imports does not count."""
    every = list(candidates(store, tip, name))
    parsed = {oid: as_join(oid, parts, name) for oid, parts in every}
    sound = {join.trailers["Tip"] for join in parsed.values() if join and join.sound}
    joins: list[Join] = []
    without: list[str] = []
    inside: set[str] = set()
    for oid, parts in every:
        join = parsed[oid]
        if oid in inside or (not (join and join.sound) and quotes(parts, sound)):
            continue
        if join is None or not brought(store, join):
            without.append(oid)
            continue
        joins.append(join)
        if not join.linear:
            inside |= set(store.git("rev-list", join.tip, "--").decode().split())
    return Found(joins[::-1], without)


def quotes(parts: Parts, sound: set[str]) -> bool:
    """A forge's merge or a revert repeats the words of a join that is there all the same."""
    tips = {found.decode() for found in TIP_ANYWHERE.findall(parts.message or b"")}
    return bool(sound) and tips <= sound


def candidates(store: Repository, tip: str, name: str) -> Iterator[tuple[str, Parts]]:
    """Newest first."""
    pattern = f"--grep=History-Import-Name: {name}"
    listed = store.git("rev-list", "--topo-order", "--fixed-strings", pattern, tip, "--")
    with store.objects() as objects:
        for oid, _, data in objects.read_many(listed.decode().split()):
            parts = split(data)
            if name.encode() in ANYWHERE.findall(parts.message or b""):
                yield oid, parts


def as_join(oid: str, parts: Parts, name: str) -> Join | None:
    found = trailers(parts.message or b"")
    if any(key not in found for key in NEEDED) or found["Name"] != name or not parts.parents:
        return None
    return Join(oid, parts, found)


def brought(store: Repository, join: Join) -> bool:
    """Is there an imported side? A squash keeps the message and has one parent."""
    if not join.linear:
        return True
    named = join.trailers["Tip"]
    known = store.code("cat-file", "-e", f"{named}^{{commit}}") == 0
    return known and store.is_ancestor(named, join.oid)


def configuration_of(
    join: Join, given: Config, host: Repository, store: Repository, tip: str
) -> Config | None:
    """The one whose digest the join names: the given file, or a version of it in the host."""
    if join.digest == given.digest:
        return given
    for blob in versions(given, host, store, tip):
        try:
            earlier = configuration.parse(blob, "an earlier version")
        except Refused:
            continue
        if earlier.digest == join.digest:
            return earlier
    return None


def versions(given: Config, host: Repository, store: Repository, tip: str) -> Iterator[bytes]:
    if given.path is None:
        return
    for path in places(given.path, host, store, tip):
        command = ["--literal-pathspecs", "log", "--format=%H", tip, "--", path]
        for oid in store.git(*command).decode().split():
            found = store.run("cat-file", "blob", f"{oid}:{path}")
            if found.returncode == 0:
                yield found.stdout


def places(path: Path, host: Repository, store: Repository, tip: str) -> list[str]:
    """Where in the host the file is: at its own place, or wherever one of its name is."""
    try:
        return [path.resolve().relative_to(host.path.resolve()).as_posix()]
    except ValueError:
        listed = store.git("ls-tree", "-r", "-z", "--name-only", tip).decode("utf-8", "replace")
        return [name for name in listed.split("\0") if Path(name).name == path.name]
