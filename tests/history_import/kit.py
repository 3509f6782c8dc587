# SPDX-License-Identifier: Apache-2.0
"""What tests of the verbs share: a verb run as a person runs it, and a repository's whole state.

Sources are made once per session and never written to; hosts are copied from one that is.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.history_import import cli

from .generator import git, make_host, make_source, write_config


@functools.cache
def _workshop() -> Path:
    return Path(tempfile.mkdtemp(prefix="history-import-"))


def remove_workshop() -> None:
    shutil.rmtree(_workshop(), ignore_errors=True)
    _workshop.cache_clear()
    source.cache_clear()
    _made_host.cache_clear()


@functools.cache
def source(kind: str) -> Path:
    """A source that no test may change."""
    return make_source(kind, _workshop() / f"source-{kind}")


@functools.cache
def _made_host(kind: str, source_kind: str) -> Path:
    return make_host(kind, _workshop() / f"host-{kind}-{source_kind}", source(source_kind))


def host(kind: str, folder: Path, source_kind: str = "plain") -> Path:
    """A host of the test's own."""
    made = _made_host(kind, source_kind)
    shutil.copytree(made, folder, symlinks=True)
    return folder


@dataclass(frozen=True)
class Case:
    """One host, one source, one configuration."""

    host: Path
    source: Path
    config: Path

    def run(self, verb: str, *options: str) -> Ran:
        return run(verb, str(self.config), "--host", str(self.host), *options)

    def git(self, *words: str) -> str:
        return git(self.host, *words)


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


def run(verb: str, *words: str) -> Ran:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main([verb, *words])
    return Ran(code, out.getvalue(), err.getvalue())


def case(folder: Path, host_kind: str = "plain", source_kind: str = "plain", **values: Any) -> Case:
    made = host(host_kind, folder / "host", source_kind)
    where = source(source_kind)
    return Case(made, where, write_config(made, where, **values))


def state(repository: Path) -> dict[str, Any]:
    """Everything that "nothing was changed" is about."""
    bare = git(repository, "rev-parse", "--is-bare-repository") == "true"
    inside = Path(git(repository, "rev-parse", "--absolute-git-dir"))
    files = {} if bare else _files(repository)
    return {
        "refs": git(repository, "for-each-ref"),
        "head": (inside / "HEAD").read_bytes(),
        "config": (inside / "config").read_bytes(),
        "index": (inside / "index").read_bytes() if (inside / "index").exists() else b"",
        "reachable": git(repository, "rev-list", "--objects", "--all", "--missing=allow-any"),
        "files": files,
    }


def _files(folder: Path) -> dict[str, bytes]:
    found = (p for p in folder.rglob("*") if ".git" not in p.relative_to(folder).parts)
    return {str(p.relative_to(folder)): p.read_bytes() for p in found if p.is_file()}
