# SPDX-License-Identifier: Apache-2.0
"""Build the Rust binary in place, for an editable install.

Owns the call of cargo and the check that cargo is new enough; must not know what the binary does.
`build_rust.sh` and `nox` call it; a wheel builds the same binary through setuptools-rust, with the
same profile and target folder, so that neither rebuilds what the other has built.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORKSPACE = ROOT / "rust"
INSTALLED = ROOT / "vllm" / "vllm-rs"
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


class BuildError(SystemExit):
    """The binary was asked for and cannot be built: one line, exit code 1."""

    def __init__(self, message: str) -> None:
        super().__init__(f"error: {message}")


def wanted() -> bool:
    """VLLM_BUILD_RUST, true by default. Raises BuildError on a word that is no boolean."""
    word = os.environ.get("VLLM_BUILD_RUST", "1").strip().lower()
    if word not in _TRUE | _FALSE:
        raise BuildError(
            f"VLLM_BUILD_RUST is {word!r}; accepted: 1, true, yes, on, 0, false, no, off"
        )
    return word in _TRUE


def _minimum() -> tuple[int, ...]:
    with (WORKSPACE / "Cargo.toml").open("rb") as file:
        return _numbers(tomllib.load(file)["workspace"]["package"]["rust-version"])


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def require_cargo() -> str:
    """The path of cargo. Raises BuildError naming the version wanted and how to get it."""
    wanted_version = ".".join(map(str, _minimum()))
    help_line = (
        f"the frontend needs cargo >= {wanted_version}: install stable Rust with rustup "
        "(rustup.rs) and put it on PATH, or leave the binary out with VLLM_BUILD_RUST=0"
    )
    cargo = os.environ.get("CARGO") or shutil.which("cargo")
    if cargo is None:
        raise BuildError(f"cargo was not found; {help_line}")
    words = subprocess.run([cargo, "--version"], capture_output=True, text=True, check=False)
    if words.returncode or _numbers(words.stdout) < _minimum():
        raise BuildError(f"{cargo} is {words.stdout.strip() or 'unusable'}; {help_line}")
    return cargo


def target_folder() -> Path:
    return Path(os.environ.get("CARGO_TARGET_DIR") or WORKSPACE / "target")


def sources_module():
    """`vllm/cli/rust_sources.py` by path: this build and the check at start share it."""
    path = ROOT / "vllm" / "cli" / "rust_sources.py"
    spec = importlib.util.spec_from_file_location("rust_sources", path)
    assert spec is not None and spec.loader is not None, f"{path} is no Python file"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build() -> Path:
    """Build the release binary and put it into the package. Returns its path."""
    sources = sources_module()
    fingerprint = sources.fingerprint(WORKSPACE)
    manifest = WORKSPACE / "src" / "cmd" / "Cargo.toml"
    command = [
        require_cargo(), "rustc", "--locked", "--release", "--manifest-path", str(manifest),
        "--bin", "vllm-rs",
    ]  # fmt: skip
    if subprocess.run(command, check=False).returncode:
        raise BuildError(f"compiling the frontend failed (messages above): {' '.join(command)}")
    _install(target_folder() / "release" / "vllm-rs")
    sources.write_stamp(INSTALLED, fingerprint)
    return INSTALLED


def _install(binary: Path) -> None:
    if INSTALLED.exists() and INSTALLED.stat().st_mtime >= binary.stat().st_mtime:
        return
    # Replace, never overwrite: a running server executes the old file.
    temporary = INSTALLED.with_suffix(".new")
    shutil.copy2(binary, temporary)
    temporary.replace(INSTALLED)


if __name__ == "__main__":
    print(build().relative_to(ROOT))
