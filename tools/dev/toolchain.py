# SPDX-License-Identifier: Apache-2.0
"""Are the compilers here? One line for each that is not, before anything is downloaded.

Owns the minimum versions of system tools; must not install any of them. nvcc is the exception: it
comes from PyPI, so `cuda_packages` says which packages hold the one that matches torch.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

_CXX = {"g++": 12, "clang++": 15}


def missing_compiler() -> str | None:
    """The line to print where there is no C++20 compiler, else None."""
    wanted = [os.environ["CXX"]] if os.environ.get("CXX") else list(_CXX)
    for name in wanted:
        if shutil.which(name) and _major(name) >= _CXX.get(os.path.basename(name), 0):
            return None
    return (
        f"no C++20 compiler ({' or '.join(wanted)}; g++ >= 12 or clang++ >= 15 is wanted): "
        "install one (Debian: apt-get install g++), or leave the kernels out with "
        "VLLM_TARGET_DEVICE=empty"
    )


def _major(compiler: str) -> int:
    words = subprocess.run([compiler, "-dumpversion"], capture_output=True, text=True, check=False)
    match = re.match(r"\d+", words.stdout)
    return int(match.group()) if match else 0


def has_system_nvcc() -> bool:
    return bool(os.environ.get("CUDACXX") or os.environ.get("CUDA_HOME") or shutil.which("nvcc"))


def cuda_packages(site_packages: Path) -> list[str]:
    """The PyPI packages of the nvcc that the torch there was built for; [] for a CPU torch.

    Reads torch's version file instead of importing torch, which takes seconds.
    """
    text = (site_packages / "torch" / "version.py").read_text()
    match = re.search(r"^cuda\b.*= '(\d+\.\d+)'", text, re.MULTILINE)
    return [f"cuda-toolkit[nvcc,cudart,cccl,nvvm,crt]=={match[1]}.*"] if match else []
