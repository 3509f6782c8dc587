# SPDX-License-Identifier: Apache-2.0
"""Runs programs of the Rust workspace for the comparison."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tools import build_rust

MANIFEST = build_rust.ROOT / "rust" / "Cargo.toml"


def cargo(*arguments: str, given: str | None = None, **environ: str) -> str:
    """What `cargo ARGUMENTS` printed, with `given` on its standard input."""
    if not build_rust.wanted() or shutil.which("cargo") is None:
        pytest.skip("the Rust half is not built here (VLLM_BUILD_RUST=0, or no cargo)")
    verb, *rest = arguments
    command = ["cargo", verb, "--manifest-path", str(MANIFEST), "--locked", *rest]
    done = subprocess.run(
        command,
        input=given,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout
