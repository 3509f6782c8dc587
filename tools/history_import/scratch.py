# SPDX-License-Identifier: Apache-2.0
"""Where an import works until it is finished: a folder in the host's git directory.

Owns the fetch of the source and the folder's name, which follows from the pinned commit and the
configuration, so that an interrupted run goes on where it was. Only here is the source ever read.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from .config import Config
from .errors import GitFailed, Refused
from .git import Repository, users_environment
from .progress import Progress
from .steps import at

# Part of the folder's name: what another version left is not gone on with.
VERSION = "1"
FETCHED = "refs/heads/source"


def init_bare(folder: Path) -> Repository:
    """A repository made under another name first: a folder of this name is a whole one."""
    if not folder.exists():
        made = Path(tempfile.mkdtemp(prefix="init-", dir=folder.parent))
        Repository(made).git("init", "--quiet", "--bare", "--template=", "--object-format=sha1")
        made.rename(folder)
    return Repository(folder)


def add_alternate(repository: Repository, *others: Repository) -> None:
    """Objects of the others become readable; nothing is copied."""
    info = repository.path / "objects" / "info"
    info.mkdir(exist_ok=True)
    lines = "".join(f"{other.common_dir() / 'objects'}\n" for other in others)
    (info / "alternates").write_text(lines)


def write_whole(path: Path, text: str) -> None:
    """A file of this name is complete, whenever the process ends."""
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    os.replace(part, path)


class Scratch:
    def __init__(self, host: Repository, config: Config) -> None:
        self.host, self.config = host, config
        self.home = host.common_dir() / "history-import" / config.name
        key = f"{config.source.pin[:16]}-{config.digest[:16]}-{VERSION}"
        self.folder = self.home / key
        self.plan_folder = self.home / "plan"

    @property
    def source(self) -> Repository:
        return Repository(self.folder / "source.git")

    @property
    def url(self) -> str:
        """A local path is meant from the host's folder, as it is for git itself."""
        url = self.config.source.url
        local = self.host.path / url
        return str(local) if "://" not in url and local.exists() else url

    def prepare(self) -> None:
        """Also removes what runs with another pin or configuration left behind."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise Refused(
                f"cannot write in {self.folder}: {error.strerror}",
                "the host's git directory must be writable",
            ) from None
        for other in self.home.iterdir():
            if other not in (self.folder, self.plan_folder):
                shutil.rmtree(other, ignore_errors=True)

    def fetch(self) -> None:
        """One ref, no tags but the named ones, no shared objects; then the pin must be in it."""
        source = init_bare(self.folder / "source.git")
        if source.resolve(FETCHED) is not None:
            try:
                return self._check(source)
            except Refused:  # the source may have got it since
                shutil.rmtree(source.path)
                init_bare(source.path)
        at("scratch.before_fetch")
        self._fetch_into(source)
        at("scratch.fetched")
        self._check(source)

    def _fetch_into(self, source: Repository) -> None:
        source.git("config", "remote.origin.url", self.url)
        wanted = [f"+{self.config.source.ref}:{FETCHED}"]
        wanted += [f"+refs/tags/{t}:refs/source-tags/{t}" for t in self.config.source.tags]
        options = ["--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"]
        try:
            # One pack, however small: that is what git-filter-repo calls a fresh clone.
            pack = ["-c", "fetch.unpackLimit=1"]
            watched(source, [*pack, "fetch", "--progress", *options, "--", "origin", *wanted])
        except GitFailed as error:
            raise Refused(
                f"cannot fetch {self.config.source.ref} of {self.url}: {_reason(error)}",
                "check source.url and source.ref; the source itself is never changed",
            ) from None

    def _check(self, source: Repository) -> None:
        pin, ref = self.config.source.pin, self.config.source.ref
        # Git fetches nothing from a shallow clone unless asked to become shallow as well.
        if (source.path / "shallow").exists() or source.resolve(FETCHED) is None:
            raise Refused(f"{self.url} is a shallow clone", "name a source with its whole history")
        if source.resolve(f"{pin}^{{commit}}") != pin or not source.is_ancestor(pin, FETCHED):
            raise Refused(
                f"source.pin {pin} is not in {ref} of {self.url}",
                f"its tip is {source.resolve(FETCHED)}; pin that or an ancestor of it",
            )
        for tag in self.config.source.tags:
            found = source.resolve(f"refs/source-tags/{tag}^{{commit}}")
            if found is None or not source.is_ancestor(found, pin):
                raise Refused(
                    f"tag {tag} of source.tags is at {found}, which is no ancestor of the pin",
                    "leave it out or pin a later commit",
                )

    @property
    def exact(self) -> bool:
        """Whether what was fetched is the pinned commit's history and nothing else."""
        return (
            self.source.resolve(FETCHED) == self.config.source.pin and not self.config.source.tags
        )

    def discard(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def watched(source: Repository, words: list[str]) -> None:
    """A fetch with its own counts shown; with the user's configuration, to reach the source."""
    process = subprocess.Popen(
        ["git", *words],
        cwd=source.path,
        env=users_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr
    said: list[str] = []
    with Progress("fetch") as progress:
        # Git ends a count that goes on with a carriage return; text mode makes lines of both.
        for line in io.TextIOWrapper(process.stderr, errors="replace"):
            progress.say(line.strip())
            said.append(line.strip())
    if process.wait():
        lines = [line for line in said if line.startswith(("fatal:", "error:", "! "))] or said[-1:]
        raise GitFailed(" / ".join(lines) or f"git fetch: exit {process.returncode}")


def _reason(error: GitFailed) -> str:
    if "mismatched algorithms" in error.message or "object format" in error.message:
        return "it is a SHA-256 repository, which this tool does not import"
    return error.message.split(" / ")[0]
