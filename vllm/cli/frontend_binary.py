# SPDX-License-Identifier: Apache-2.0
"""The `vllm-rs` binary: where it is, whether it is wanted, whether it fits; and its console script.

Must not know sockets or what the binary is started for.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import vllm
from vllm import envs
from vllm.cli.rust_sources import is_stale
from vllm.errors import FrontendBinaryError, VLLMError
from vllm.log_lines import open_standard_streams
from vllm.logging import init_logger
from vllm.protocol import WIRE_VERSION
from vllm.version import __version__, release_of

logger = init_logger(__name__)

PACKAGED = Path(vllm.__file__).with_name("vllm-rs")
_WORKSPACE = Path(vllm.__file__).resolve().parent.parent / "rust"
_VERSION = re.compile(r"vllm-rs (?P<release>\d+\.\d+\.\d+)\S*(?: \(wire (?P<wire>\d+)\))?")
_VERSION_TIMEOUT_S = 20


def choose() -> Path | None:
    """The Rust frontend's binary, or None for the Python one; see the two variables below.

    VLLM_USE_RUST_FRONTEND true: the binary must be there. False: Python. Unset: the binary where it
    is installed or named by VLLM_RUST_FRONTEND_PATH, else Python with one log line. A binary that
    is chosen is checked. Raises FrontendBinaryError.
    """
    wanted = envs.VLLM_USE_RUST_FRONTEND
    if wanted is False:
        return None
    named = envs.VLLM_RUST_FRONTEND_PATH
    path = PACKAGED if named == "auto" else Path(named).expanduser()
    if path.is_file():
        check(path)
        return path.absolute()
    if named != "auto":
        raise FrontendBinaryError(f"VLLM_RUST_FRONTEND_PATH is {named!r}: there is no such file")
    if wanted:
        raise FrontendBinaryError(
            f"VLLM_USE_RUST_FRONTEND asks for the Rust frontend, but {path} is not there; build it "
            "with `nox -s build` or ./build_rust.sh"
        )
    logger.info("%s is not installed: the Python frontend serves", path.name)
    return None


def check(path: Path) -> None:
    """Refuse a binary of another version or wire, or one older than the sources beside it."""
    if path == PACKAGED and is_stale(path, _WORKSPACE):
        raise FrontendBinaryError(
            f"{path} was built from other sources than {_WORKSPACE} has now; rebuild it with "
            "./build_rust.sh, or set VLLM_USE_RUST_FRONTEND=0"
        )
    shown = _version_line(path)
    match = _VERSION.match(shown)
    if match is None:
        raise FrontendBinaryError(f"{path} is no vllm-rs: its --version says {shown[:80]!r}")
    found = (match["release"], match["wire"] or "unknown")
    expected = (release_of(__version__), str(WIRE_VERSION))
    if found != expected:
        raise FrontendBinaryError(
            f"{path} is vllm-rs {found[0]} with wire {found[1]}; this package needs {expected[0]} "
            f"with wire {expected[1]}. Rebuild it, or set VLLM_USE_RUST_FRONTEND=0"
        )


def _version_line(path: Path) -> str:
    try:
        done = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_VERSION_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise FrontendBinaryError(f"{path} cannot be run: {why}") from None
    return done.stdout.decode(errors="replace").strip()


def main() -> int:
    """The console script `vllm-rs`: become the binary, which launches engines with this Python."""
    open_standard_streams()
    try:
        if not PACKAGED.is_file():
            raise FrontendBinaryError(
                f"{PACKAGED} is not there: this package was built without the Rust frontend; build "
                "it with `nox -s build` or ./build_rust.sh"
            )
        if is_stale(PACKAGED, _WORKSPACE):
            check(PACKAGED)
        environment = {**os.environ, "VLLM_RS_PYTHON": sys.executable}
        os.execve(PACKAGED, ["vllm-rs", *sys.argv[1:]], environment)
    except VLLMError as error:
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)
