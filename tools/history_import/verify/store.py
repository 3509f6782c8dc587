# SPDX-License-Identifier: Apache-2.0
"""Object stores seen through a bare repository of our own: no configuration, refs or caches of
the repository that is proved have any influence, and what git writes stays with us.

Owns these views and the choice of the source's objects. Knows nothing of images or points.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..config import Config
from ..errors import GitFailed, Refused
from ..git import Repository


def view(folder: Path, repository: Repository | None = None) -> Repository:
    """A repository with the same objects and nothing else."""
    folder.mkdir()
    made = Repository(folder)
    made.git("init", "--quiet", "--bare", "--template=", "--object-format=sha1")
    if repository is not None:
        objects = str((repository.common_dir() / "objects").resolve())
        if "\n" in objects:
            raise Refused(f"the folder {objects!r} has a line end in its name", "move it")
        (folder / "objects" / "info").mkdir(exist_ok=True)
        (folder / "objects" / "info" / "alternates").write_text(objects + "\n")
    return made


@contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="history-import-verify-") as folder:
        yield Path(folder)


def require_whole(repository: Repository) -> None:
    """All history at hand, in the object format whose ids are recomputed."""
    form = repository.run("rev-parse", "--show-object-format").stdout.strip()
    if form != b"sha1":
        raise Refused(f"{repository.path} has object format {form.decode()!r}", "sha1 is supported")
    if repository.git("rev-parse", "--is-shallow-repository").strip() == b"true":
        raise Refused(f"{repository.path} is shallow", "fetch with full depth: --unshallow")
    if repository.run("config", "--get-regexp", r"^remote\..*\.promisor$").stdout.strip():
        raise Refused(f"{repository.path} is a partial clone", "clone it without --filter")


def has(repository: Repository, oid: str) -> bool:
    return repository.code("cat-file", "-e", f"{oid}^{{commit}}") == 0


def source_view(
    folder: Path, config: Config, host: Repository, source: Path | None, fetch: bool
) -> Repository:
    """The source's objects: the given repository, else the kept originals, else a fetch."""
    if source is not None:
        given = Repository(source)
        if not source.is_dir() or given.code("rev-parse", "--git-dir"):
            raise Refused(f"{source} is not a git repository", "name one with --source")
        require_whole(given)
        return view(folder, given)
    if host.resolve(f"refs/imports/{config.name}/original"):
        return view(folder, host)
    return fetched(folder, config) if fetch else view(folder, host)


def fetched(folder: Path, config: Config) -> Repository:
    """One ref, no tags; the ids that are proved with it are checked against the trailers."""
    made = view(folder)
    url = config.source.url
    local = config.path.parent / url if config.path and "://" not in url else Path(url)
    where = str(local.resolve()) if local.is_dir() else url
    spec = f"+{config.source.ref}:refs/source"
    try:
        made.git("fetch", "--quiet", "--no-tags", "--end-of-options", where, spec, user=True)
    except GitFailed as error:
        raise Refused(
            f"the source is not at hand: {error.message}", "name it with --source"
        ) from None
    return made
