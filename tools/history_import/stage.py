# SPDX-License-Identifier: Apache-2.0
"""The host as it will be, beside the host: its refs copied, the new objects and refs added.

Everything is proved here before the host gets a single object. Owns how objects reach the host.
Knows nothing of what is joined.
"""

from __future__ import annotations

import os
import shutil

from . import scratch
from .git import Repository
from .scratch import Scratch
from .steps import at


class Stage:
    def __init__(self, place: Scratch, *others: Repository) -> None:
        """`others`: where images can be read, besides the host and the fetched source."""
        self.host, self.source = place.host, place.source
        folder = place.folder / "stage.git"
        shutil.rmtree(folder, ignore_errors=True)
        self.repository = scratch.init_bare(folder)
        scratch.add_alternate(self.repository, self.host, place.source, *others)
        self.set_refs({os.fsdecode(name): oid for name, oid in self.host.refs().items()})
        at("stage.made")

    def set_refs(self, values: dict[str, str]) -> None:
        lines = "".join(f"update {name} {oid}\n" for name, oid in values.items())
        self.repository.git("update-ref", "--no-deref", "--stdin", input=lines.encode())

    def land(self, oids: list[str]) -> None:
        """Objects only; no ref of the host moves."""
        at("stage.before_land")
        options = ["--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"]
        self.host.git("fetch", *options, "--", str(self.repository.path), *oids)
        at("stage.landed")
