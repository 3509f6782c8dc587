# SPDX-License-Identifier: Apache-2.0
"""A host and the source it imported, side by side, as the verbs after an import find them.

Each kind is imported once per session and then copied: the configuration names the source by a
relative path, so a copy has the same ids. It must not know what a test does next.
"""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from . import kit
from .generator import git, write_config
from .kit import Case

BRANCH = "refs/heads/import/frontend"
TIP = "refs/imports/frontend/tip"
# One engine: that both agree is proved elsewhere, and these tests run the tool often.
DEFAULTS = {"engine__use": "graft", "source__url": "../source"}


@functools.cache
def _made(host: str, source: str, values: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="world-", dir=kit._workshop()))
    shutil.copytree(kit.source(source), folder / "source")
    if "submodule" in host:  # its .gitmodules names the source, so it is made for this one
        kit.make_host(host, folder / "host", folder / "source")
    else:
        kit.host(host, folder / "host", source)
    case = configure(folder, **json.loads(values))
    ran = case.run("import")
    assert ran.code == 0, ran.err
    return folder


def configure(folder: Path, **values: Any) -> Case:
    """The case in `folder`, its configuration pinning the source's present tip."""
    host, source = folder / "host", folder / "source"
    return Case(host, source, write_config(host, source, **{**DEFAULTS, **values}))


def imported(folder: Path, host: str = "plain", source: str = "plain", **values: Any) -> Case:
    """On its branch, not landed."""
    made = _made(host, source, json.dumps(values, sort_keys=True))
    shutil.copytree(made, folder, symlinks=True, dirs_exist_ok=True)
    return configure(folder, **values)


def land(case: Case) -> Case:
    """As a forge does it: the branch becomes part of main, here by fast-forward."""
    git(case.host, "merge", "--quiet", "--ff-only", BRANCH)
    return case


def landed(folder: Path, host: str = "plain", source: str = "plain", **values: Any) -> Case:
    return land(imported(folder, host, source, **values))


def repin(case: Case, **values: Any) -> Case:
    return configure(case.host.parent, **values)
