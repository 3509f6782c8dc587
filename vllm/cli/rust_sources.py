# SPDX-License-Identifier: Apache-2.0
"""Tells whether an in-place `vllm-rs` was built from the sources beside it.

Owns the fingerprint of `rust/` and the stamp next to the binary; must not build or run anything.
An installed wheel has no `rust/` folder and needs no check. Standard library only: the build
loads this file by path.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

_NOT_IN_THE_BINARY = {"target", "fuzz"}  # outputs; a workspace of its own with outputs in it
_SUFFIXES = {".rs", ".toml", ".lock", ".json", ".html", ".jinja", ".proto"}


def fingerprint(workspace: Path) -> str:
    """SHA-256 over the names and bytes of everything that can change the binary, sorted."""
    digest = hashlib.sha256()
    for path in _inputs(workspace):
        digest.update(path.relative_to(workspace).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _inputs(workspace: Path) -> list[Path]:
    roots = [path for path in workspace.iterdir() if path.name not in _NOT_IN_THE_BINARY]
    files = [path for root in roots for path in ([root] if root.is_file() else root.rglob("*"))]
    kept = [p for p in files if p.suffix in _SUFFIXES and "tests" not in p.parts and p.is_file()]
    return sorted(kept)


def stamp_of(binary: Path) -> Path:
    """The file that says which sources `binary` was built from."""
    return binary.with_name(binary.name + ".sources")


def write_stamp(binary: Path, value: str) -> None:
    stamp_of(binary).write_text(value + "\n")


def is_stale(binary: Path, workspace: Path) -> bool:
    """True where `workspace` is a source tree and `binary` was not built from its present state."""
    if not (workspace / "Cargo.toml").is_file():
        return False
    stamp = stamp_of(binary)
    return not stamp.is_file() or stamp.read_text().strip() != fingerprint(workspace)
