# SPDX-License-Identifier: Apache-2.0
"""Build the kernel libraries of `csrc/` with the torch of the running Python.

Owns the call of CMake and the meaning of VLLM_TARGET_DEVICE; must not know how a kernel works.
Used by `setup.py` for a wheel and by `nox` for the tree in place, so that both build the same way.
`python tools/build_csrc.py` builds into `vllm/`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEVICES = ("auto", "cpu", "cuda", "empty")
# VLLM_TARGET_DEVICE -> the VLLM_CUDA option of csrc/CMakeLists.txt
_CUDA_OPTION = {"auto": "AUTO", "cpu": "OFF", "cuda": "ON"}


class BuildError(SystemExit):
    """A part that was asked for cannot be built: one line, exit code 1."""

    def __init__(self, message: str) -> None:
        super().__init__(f"error: {message}")


def target_device() -> str:
    """The value of VLLM_TARGET_DEVICE, `auto` by default. Raises BuildError on any other word."""
    device = os.environ.get("VLLM_TARGET_DEVICE", "auto").strip().lower()
    if device not in DEVICES:
        raise BuildError(f"VLLM_TARGET_DEVICE is {device!r}; accepted: {', '.join(DEVICES)}")
    return device


def _require_torch() -> Path:
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise BuildError(
            f"the kernels need torch >= 2.10 in {sys.executable}: install it, "
            "or leave the kernels out with VLLM_TARGET_DEVICE=empty"
        )
    return Path(spec.origin).parent


def _tool(name: str) -> str:
    """`name` of the running environment first, then of PATH. Raises BuildError where absent."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise BuildError(
            f"the kernels need {name}: `python -m pip install {name}`, "
            "or leave the kernels out with VLLM_TARGET_DEVICE=empty"
        )
    return found


def _run(command: list[str], part: str) -> None:
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise BuildError(
            f"{part} failed (its messages are above): {' '.join(command)}\n"
            "VLLM_TARGET_DEVICE=cpu leaves the CUDA library out, =empty leaves all kernels out"
        )


def build(output: Path) -> list[Path]:
    """Build what VLLM_TARGET_DEVICE asks for; returns the libraries, copied into `output`.

    One build folder per torch, so that environments do not undo each other's work.
    """
    device = target_device()
    if device == "empty":
        return []
    torch = _require_torch()
    key = hashlib.sha256(f"{torch}|{device}".encode()).hexdigest()[:12]
    folder = ROOT / "build" / f"csrc-{key}"
    products = folder / "products"
    configure = [
        _tool("cmake"), "-S", str(ROOT / "csrc"), "-B", str(folder), "-G", "Ninja",
        f"-DCMAKE_MAKE_PROGRAM={_tool('ninja')}", "-DCMAKE_BUILD_TYPE=Release",
        f"-DPython3_EXECUTABLE={sys.executable}", f"-DVLLM_OUTPUT_DIR={products}",
        f"-DVLLM_CUDA={_CUDA_OPTION[device]}",
    ]  # fmt: skip
    _run(configure, "configuring the kernels")
    jobs = os.environ.get("MAX_JOBS") or str(len(os.sched_getaffinity(0)))
    _run([_tool("cmake"), "--build", str(folder), "--parallel", jobs], "compiling the kernels")
    return [_copy_if_newer(library, output) for library in sorted(products.glob("*.so"))]


def _copy_if_newer(library: Path, folder: Path) -> Path:
    target = folder / library.name
    if not target.exists() or target.stat().st_mtime < library.stat().st_mtime:
        folder.mkdir(parents=True, exist_ok=True)
        # Replace, never overwrite: a running engine has the old file mapped.
        temporary = target.with_suffix(".so.new")
        shutil.copy2(library, temporary)
        temporary.replace(target)
    return target


if __name__ == "__main__":
    for path in build(ROOT / "vllm"):
        print(path.relative_to(ROOT))
