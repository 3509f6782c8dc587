# SPDX-License-Identifier: Apache-2.0
"""An environment of its own for each client: openai 2 and 3 cannot share one, for example.

Made by the registries' own installers from pinned versions, kept in the user's cache, outside the
tree.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from vllm.config.embedded import cache_root


def python(*packages: str) -> Path:
    """The interpreter of an environment with these packages and what they need; made once."""
    folder = _made("python", packages, _make_python)
    return folder / "bin" / "python"


def node(*packages: str) -> Path:
    """The folder whose `node_modules` has these packages, made on first use."""
    return _made("node", packages, _make_node)


def _made(kind: str, packages: tuple[str, ...], make: Callable[..., None]) -> Path:
    root = cache_root() / "clients"
    root.mkdir(parents=True, exist_ok=True)
    words = "\n".join([kind, sys.version, *packages])
    digest = hashlib.sha256(words.encode()).hexdigest()[:12]
    name = packages[0].replace("/", "-").lstrip("@").replace("==", "-").replace("@", "-")
    folder = root / f"{kind}-{name}-{digest}"
    done = folder / ".complete"  # written last: an interrupted installation is made anew
    with (root / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder, packages)
            done.touch()
    return folder


def _make_python(folder: Path, packages: tuple[str, ...]) -> None:
    interpreter = folder / "bin" / "python"
    if uv := shutil.which("uv"):
        _run(uv, "venv", "-q", "--clear", "--python", sys.executable, str(folder))
        _run(uv, "pip", "install", "-q", "--python", str(interpreter), *packages)
    else:
        _run(sys.executable, "-m", "venv", str(folder))
        _run(str(interpreter), "-m", "pip", "install", "-q", *packages)


def _make_node(folder: Path, packages: tuple[str, ...]) -> None:
    (folder / "package.json").write_text('{"private": true, "type": "module"}\n')
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--save-exact"]
    _run("npm", "install", "--silent", *options, *packages, folder=folder)


def _run(*command: str, folder: Path | None = None) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip()[-800:]
        raise RuntimeError(f"{' '.join(command[:3])} failed: {words}")
