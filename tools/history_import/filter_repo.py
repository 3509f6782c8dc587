# SPDX-License-Identifier: Apache-2.0
"""git-filter-repo as an engine: found in the right version, run in a repository made for it, read.

Owns the safety around a program that rewrites whatever it is started in: it only ever sees a
repository that this module has just made and marked. Knows nothing of the graft.
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from . import filter_repo_driver, scratch
from .closure import Closure
from .config import Config
from .errors import EngineFailed, Refused
from .git import Repository, environment
from .progress import Progress
from .scratch import Scratch
from .steps import at

BRANCH = "refs/heads/import"
PERSON = re.compile(rb"(?:author|committer) .*? <[^<>]*> [0-9]+ [+-][0-9]+")


def installed() -> str | None:
    try:
        return importlib.metadata.version("git-filter-repo")
    except importlib.metadata.PackageNotFoundError:
        return None


def unreadable_person(data: bytes) -> bytes | None:
    """An author or committer line without the space that git-filter-repo expects before `<`."""
    head = data.partition(b"\n\n")[0]
    people = (line for line in head.split(b"\n") if line.startswith((b"author ", b"committer ")))
    return next((line for line in people if not PERSON.fullmatch(line)), None)


def require(config: Config) -> None:
    wanted, found = config.engine.filter_repo, installed()
    if found == wanted:
        return
    have = f"git-filter-repo {found} is installed" if found else "git-filter-repo is not installed"
    raise Refused(
        f"{have}, engine.filter_repo is {wanted!r}", f"pip install git-filter-repo=={wanted}"
    )


class FilterRepo:
    """`start`, then `finish`: it runs beside the graft on the other core."""

    def __init__(self, config: Config, place: Scratch, closure: Closure) -> None:
        self.config, self.scratch, self.closure = config, place, closure
        self.repository = Repository(place.folder)  # until it is made

    def start(self, references: dict[str, dict[str, str]]) -> None:
        self._make()
        self._check_place()
        self._request = tempfile.TemporaryFile()  # noqa: SIM115 - the process reads it
        self._request.write(json.dumps(self._ask(references)).encode())
        self._request.seek(0)
        at("filter_repo.start")
        self._process = subprocess.Popen(
            [sys.executable, "-m", filter_repo_driver.__name__],
            cwd=self.repository.path,
            env=environment() | {"PYTHONPATH": self._import_path()},
            stdin=self._request,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        at("filter_repo.started")

    def finish(self) -> dict[str, str]:
        said = self._listen()
        code = self._process.wait()
        at("filter_repo.ended")
        if code:
            raise self._failure(code, said)
        return self._read_map()

    def _listen(self) -> str:
        """Counts go to the terminal; what else it says is kept for the case that it fails."""
        assert self._process.stdout
        said: list[str] = []
        with Progress("git-filter-repo", len(self.closure)) as commits:
            for line in io.TextIOWrapper(self._process.stdout, errors="replace"):
                if line.strip().isdigit():
                    commits.advance(int(line) - commits.done)
                else:
                    said.append(line)
        return "".join(said)

    def _failure(self, code: int, said: str) -> EngineFailed:
        for oid, data in zip(self.closure.oids, self.closure.raw, strict=True):
            if odd := unreadable_person(data):
                shown = odd.decode("utf-8", "backslashreplace")
                return EngineFailed(f"git-filter-repo cannot read {shown!r} of {oid}", oid)
        lines = [line for line in said.splitlines() if "rror" in line or "fatal" in line]
        return EngineFailed(f"git-filter-repo ended with {code}: {' / '.join(lines[-2:])}")

    def stop(self) -> None:
        """Where the graft refused meanwhile."""
        self._process.kill()
        self._process.wait()

    def _make(self) -> None:
        """New for each run; objects of the fetched source are read through an alternate.

        Under a name of its own: git-filter-repo of a run that was killed may still be at work.
        """
        for old in self.scratch.folder.glob("filter-*"):
            shutil.rmtree(old, ignore_errors=True)
        room = Path(tempfile.mkdtemp(prefix="filter-", dir=self.scratch.folder))
        self.repository = scratch.init_bare(room / "filter.git")
        scratch.add_alternate(self.repository, self.scratch.source)
        self.repository.git("config", "remote.origin.url", self.scratch.url)
        self.repository.git("config", filter_repo_driver.MARK, "true")
        # A stage lands packs as they are; fast-import would unpack a small one.
        self.repository.git("config", "fastimport.unpackLimit", "1")
        self.repository.git("update-ref", BRANCH, self.closure.pin)
        self.repository.git("symbolic-ref", "HEAD", BRANCH)

    def _check_place(self) -> None:
        """Its origin is the configured source, and no commit of the host's can be rewritten."""
        origin = self.repository.line("config", "--get", "remote.origin.url")
        base = self.scratch.host.resolve(f"refs/heads/{self.config.target.base}^{{commit}}")
        inside = Path(self.repository.line("rev-parse", "--absolute-git-dir")).resolve()
        if origin != self.scratch.url or inside != self.repository.path.resolve():
            raise Refused(f"{inside} is not the scratch repository of {self.scratch.url}")
        if base in self.closure.position:
            raise Refused(f"the host's {self.config.target.base} ({base}) is in the source")

    def _ask(self, references: dict[str, dict[str, str]]) -> dict[str, object]:
        rules = self.config.messages
        return {
            "prefix": self.config.target.prefix,
            "qualify": rules.qualify,
            "defuse": rules.defuse_closing_keywords,
            "translate": rules.translate_hashes,
            "references": references if rules.translate_hashes else {},
        }

    def _import_path(self) -> str:
        """The folder that holds this package, whatever its name is here."""
        depth = filter_repo_driver.__name__.count(".")
        return str(Path(filter_repo_driver.__file__).resolve().parents[depth])

    def _read_map(self) -> dict[str, str]:
        lines = (self.repository.path / "filter-repo" / "commit-map").read_text().splitlines()
        pairs = dict(line.split() for line in lines[1:])
        lost = [oid for oid in self.closure.oids if pairs.get(oid, "0" * 40) == "0" * 40]
        if lost:
            raise Refused(
                f"git-filter-repo pruned {len(lost)} commits, the first is {lost[0]}",
                'report this; engine.use = "graft" keeps them',
            )
        return {oid: pairs[oid] for oid in self.closure.oids}
