# SPDX-License-Identifier: Apache-2.0
"""What a join says about itself: the trailers of its message, written and read.

The only state of an import is in these commits. Owns the trailers' names; knows nothing of how a
join is made.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .git import Commit, Repository

PREFIX = "History-Import-"
KINDS = ("import", "switch", "sync")
TRAILER = re.compile(rb"History-Import-([A-Za-z-]+): ?([^\n]*)")


@dataclass(frozen=True)
class Record:
    commit: str
    parents: tuple[str, ...]
    name: str
    kind: str
    source: str  # URL
    source_commit: str
    tip: str  # image of the source commit
    commits: int
    config: str  # digest of the configuration
    engines: tuple[str, ...]
    resolution: str = ""  # "hand-made" where a person resolved a sync

    @property
    def linear(self) -> bool:
        return len(self.parents) == 1


def trailers(
    name: str,
    kind: str,
    url: str,
    source: str,
    image: str,
    commits: int,
    digest: str,
    engines: tuple[str, ...],
    resolution: str = "",
) -> str:
    pairs = {
        "Name": name,
        "Kind": kind,
        "Source": url,
        "Commit": source,
        "Tip": image,
        "Commits": str(commits),
        "Config": f"sha256:{digest}",
        "Engines": ", ".join(engines),
    }
    if resolution:
        pairs["Resolution"] = resolution
    return "".join(f"{PREFIX}{key}: {value}\n" for key, value in pairs.items())


def parse(oid: str, commit: Commit) -> Record | None:
    """Nothing where the commit is no join: trailers missing, or not describing its own parents."""
    last = commit.message.rstrip(b"\n").rpartition(b"\n\n")[2]
    found = {key.decode(): value.decode(errors="replace") for key, value in TRAILER.findall(last)}
    parents = tuple(commit.parents)
    image = found.get("Tip", "")
    # The merge layout joins the image as last parent; the linear one records on top of it.
    if not {"Name", "Commit", "Config"} <= set(found) or (image,) != parents[-1:]:
        return None
    return Record(
        oid,
        parents,
        found["Name"],
        found.get("Kind", ""),
        found.get("Source", ""),
        found["Commit"],
        image,
        int(number) if (number := found.get("Commits", "")).isdigit() else 0,
        found["Config"].removeprefix("sha256:"),
        tuple(filter(None, found.get("Engines", "").split(", "))),
        found.get("Resolution", ""),
    )


def read(repository: Repository, oid: str) -> Record | None:
    with repository.objects() as objects:
        return parse(oid, objects.commit(oid))


def find(repository: Repository, ref: str, name: str) -> list[Record]:
    """Joins of this import that `ref` has, newest first; a merge on top of them does not matter.

    What the imported history itself says about imports does not count.
    """
    pattern = f"{PREFIX}Name: {name}"
    command = ["rev-list", "--topo-order", "--fixed-strings", f"--grep={pattern}", ref, "--"]
    oids = repository.git(*command).decode().split()
    with repository.objects() as objects:
        parsed = [parse(oid, objects.commit(oid)) for oid in oids]
    records = [record for record in parsed if record and record.name == name]
    if len(records) < 2 or records[0].linear:
        return records
    newest = records[0]
    return [r for r in records if not repository.is_ancestor(r.commit, newest.tip)]
