# SPDX-License-Identifier: Apache-2.0
"""The one Python environment that every session of a checkout shares.

nox makes one environment per session; here each would hold its own torch, and kernels built with
the torch of one would be rebuilt for the next. So sessions run with nox's backend `none` inside
this environment, made by uv where uv is there (seconds, files shared with its cache), else by venv.
"""

from __future__ import annotations

import os
import shutil
import sys
import tomllib
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / ".nox" / "dev"
HISTORY_IMPORT = ROOT / "tools" / "history_import"


def python() -> str:
    return str(FOLDER / "bin" / "python")


def site_packages() -> Path:
    return next((FOLDER / "lib").glob("python3.*")) / "site-packages"


def path() -> str:
    """PATH with the environment's programs first, for tools that look for `ruff` or `mypy`."""
    return f"{FOLDER / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"


def uv() -> str | None:
    """The uv that nox[uv] brought along, or one on PATH."""
    beside = Path(sys.executable).parent / "uv"
    return str(beside) if beside.exists() else shutil.which("uv")


def create(session: nox.Session, folder: Path) -> None:
    """Make an empty environment of the running Python at `folder`."""
    if uv():
        session.run(
            uv(), "venv", "-q", "--clear", "--python", sys.executable, str(folder), external=True
        )
    else:
        session.run(sys.executable, "-m", "venv", "--clear", str(folder), external=True)


def install(session: nox.Session, folder: Path, *arguments: str, **environment: str) -> None:
    """`pip install ARGUMENTS` into the environment at `folder`."""
    interpreter = str(folder / "bin" / "python")
    installer = (
        [uv(), "pip", "install", "-q", "--python", interpreter]
        if uv()
        else [interpreter, "-m", "pip", "install", "-q"]
    )
    session.run(*installer, *arguments, env=environment or None, external=True)


def _project(folder: Path = ROOT) -> dict:
    with (folder / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


def requirements(*groups: str) -> list[str]:
    """The package's own requirements and those of the named dependency groups."""
    project = _project()
    extra = [name for group in groups for name in project["dependency-groups"][group]]
    return [*project["project"]["dependencies"], *extra]


def extra(name: str) -> list[str]:
    """What an extra of the package needs besides."""
    return list(_project()["project"]["optional-dependencies"][name])


def prepare(session: nox.Session) -> None:
    """Bring the shared environment up to date: requirements, and the package itself, editable."""
    if not Path(python()).exists():
        session.log("making the shared environment (torch alone is some gigabytes: minutes once)")
        create(session, FOLDER)
    install(session, FOLDER, *requirements("build", "test", "lint"), *history_import_requirements())
    _install_editable(session)


def history_import_requirements() -> list[str]:
    """What `tools/history_import` needs; its tests run in the shared environment."""
    return list(_project(HISTORY_IMPORT)["project"]["dependencies"])


def history_import(session: nox.Session) -> Path:
    """The environment of `tools/history_import` alone: seconds instead of torch's gigabytes."""
    folder = ROOT / ".nox" / "history-import"
    if not (folder / "bin" / "python").exists():
        create(session, folder)
    install(session, folder, *history_import_requirements())
    return folder


def _install_editable(session: nox.Session) -> None:
    """Console scripts and metadata only: the binary and the kernels are built in place."""
    inputs = [ROOT / "pyproject.toml", ROOT / "setup.py"]
    stamp = FOLDER / "editable.stamp"
    if stamp.exists() and stamp.stat().st_mtime > max(path.stat().st_mtime for path in inputs):
        return
    install(
        session, FOLDER, "--no-build-isolation", "--no-deps", "-e", str(ROOT),
        VLLM_BUILD_RUST="0", VLLM_TARGET_DEVICE="empty",
    )  # fmt: skip
    stamp.touch()
