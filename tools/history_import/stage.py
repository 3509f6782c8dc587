# SPDX-License-Identifier: Apache-2.0
"""The host as it will be, beside the host: its refs copied, the new objects and refs added.

Everything is proved here before the host gets a single object. Owns how objects reach the host.
Knows nothing of what is joined.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from . import scratch
from .git import Repository
from .scratch import Scratch
from .steps import at


class Stage:
    def __init__(self, place: Scratch, *others: Repository, whole: bool = True) -> None:
        """`others`: where images can be read, besides the host and the fetched source.

        `whole`: the host has nothing of it yet, so packs can be taken over as they are.
        """
        self.host, self.source, self._others = place.host, place.source, others
        self._exact = whole and place.exact
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
        if self._exact:
            self._adopt()
        else:
            self._fetch(oids)
        at("stage.landed")

    def _adopt(self) -> None:
        """The packs as they are: they hold the pinned history and its images and nothing else."""
        store = self.host.common_dir() / "objects"
        for repository in (self.source, *self._others):
            for index in sorted((repository.path / "objects" / "pack").glob("pack-*.idx")):
                # The index last: without it git does not see a pack.
                for file in (index.with_suffix(".pack"), index):
                    adopt(file, store / "pack" / file.name)
                at("stage.pack")
        # The joins; and where git-filter-repo made few objects, they are no pack.
        for repository in (*self._others, self.repository):
            for loose in sorted((repository.path / "objects").glob("[0-9a-f][0-9a-f]/*")):
                adopt(loose, store / loose.parent.name / loose.name)
        at("stage.loose")

    def _fetch(self, oids: list[str]) -> None:
        """Where the source's ref has more than the pinned history, git selects what is needed."""
        options = ["--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"]
        self.host.git("fetch", *options, "--", str(self.repository.path), *oids)


def adopt(file: Path, to: Path) -> None:
    """A complete file appears under its name or none does; content named by its hash is final."""
    if to.exists():
        return
    to.parent.mkdir(exist_ok=True)
    part = to.with_name(f"tmp_history_import_{os.getpid()}")
    part.unlink(missing_ok=True)
    try:
        os.link(file, part)
    except OSError:  # another file system, or one without links
        shutil.copy(file, part)
    os.replace(part, to)
