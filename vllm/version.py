# SPDX-License-Identifier: Apache-2.0
"""The one version of the tree. Owns where it comes from; must not import anything of the package.

The base X.Y.Z is written once, in `rust/Cargo.toml`, because cargo needs it there. `setup.py` lets
setuptools-scm add the commit to it and writes `vllm/_version.py`; a tree that was never built or
has no git falls back to the base. The binary and the package match when X.Y.Z and the wire number
do, so that a commit alone rebuilds and relinks nothing.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

_MANIFEST = Path(__file__).resolve().parent.parent / "rust" / "Cargo.toml"


def base_version(manifest: Path = _MANIFEST) -> str:
    """X.Y.Z of the workspace manifest.

    Raises FileNotFoundError where there is no source tree (an installed wheel has `_version`).
    """
    with manifest.open("rb") as file:
        return tomllib.load(file)["workspace"]["package"]["version"]


def release_of(version: str) -> str:
    """X.Y.Z of a full version: `0.1.0.dev7+g1234567` is release `0.1.0`.

    Raises ValueError, naming the text, where it does not begin with three numbers.
    """
    match = re.match(r"\d+\.\d+\.\d+", version)
    if match is None:
        raise ValueError(f"version {version!r} does not begin with X.Y.Z")
    return match.group()


def _read() -> str:
    try:
        from vllm._version import version  # noqa: PLC0415 - absent in a tree never built
    except ImportError:
        return base_version()
    return version


__version__ = _read()
