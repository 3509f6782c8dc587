# SPDX-License-Identifier: Apache-2.0
"""Make the wheel, put it into a fresh environment, and ask it one real question.

Owns what counts as a good wheel; must not know how its parts are compiled. The result is remembered
with a fingerprint of everything that goes in, so that a build with nothing changed ends at once.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import nox

from tools.dev import environment

ROOT = environment.ROOT
DIST = ROOT / "dist"
FRESH = ROOT / ".nox" / "wheel"
_STAMP = DIST / "passed"
_INPUTS = ["vllm", "csrc", "rust", "tools", "pyproject.toml", "setup.py", "LICENSE", "README.md"]
_SWITCHES = ["VLLM_TARGET_DEVICE", "VLLM_BUILD_RUST"]


def fingerprint() -> str:
    """SHA-256 over the inputs git knows of or would add, and over the build's switches.

    The version is left out: a commit alone changes no part.
    """
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z", "--", *_INPUTS]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    digest = hashlib.sha256("|".join(os.environ.get(s, "") for s in _SWITCHES).encode())
    for name in sorted(set(names.decode().split("\0")) - {""}):
        path = ROOT / name
        if path.is_file():
            digest.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def up_to_date(value: str) -> Path | None:
    """The wheel that was built from these inputs and passed, if it is still there."""
    wheels = sorted(DIST.glob("vllm-*.whl"))
    passed = _STAMP.is_file() and _STAMP.read_text().strip() == value
    return wheels[-1] if passed and wheels else None


def build(session: nox.Session) -> Path:
    """Build the wheel in the shared environment. Returns its path."""
    for old in [*DIST.glob("vllm-*.whl"), _STAMP]:
        old.unlink(missing_ok=True)
    command = [
        environment.python(),
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-build-isolation",
        "--no-deps",
    ]
    session.run(*command, "-w", str(DIST), str(ROOT), external=True)
    return next(DIST.glob("vllm-*.whl"))


def smoke(session: nox.Session, wheel: Path) -> None:
    """Install `wheel` into an empty environment and run a request against its server."""
    environment.create(session, FRESH)
    environment.install(session, FRESH, str(wheel))
    program = ROOT / "tools" / "dev" / "smoke.py"
    # Isolated mode and another folder: the tree must not stand in for what the wheel lacks.
    command = [str(FRESH / "bin" / "python"), "-I", str(program)]
    with session.chdir(str(FRESH)):
        session.run(*command, external=True)


def remember(value: str) -> None:
    _STAMP.write_text(value + "\n")
