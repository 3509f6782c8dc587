# SPDX-License-Identifier: Apache-2.0
"""Makes sure that there is a kernel library before any test imports `vllm.kernels.ops`.

A library in VLLM_KERNEL_DIR or in vllm/ is used as it is; otherwise one is built into a temporary
folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


def _build(target: Path) -> None:
    if shutil.which("cmake") is None:
        pytest.exit("no kernel library and no cmake: install CMake >= 3.24 or build csrc/ first", 2)
    build = target / "build"
    configure = ["cmake", "-S", str(ROOT / "csrc"), "-B", str(build), "-DVLLM_CUDA=OFF"]
    options = [f"-DPython3_EXECUTABLE={sys.executable}", f"-DVLLM_OUTPUT_DIR={target}"]
    for command in ([*configure, *options], ["cmake", "--build", str(build), "--parallel", "2"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.exit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}", 2)


def pytest_configure(config: pytest.Config) -> None:
    if "VLLM_KERNEL_DIR" in os.environ or (ROOT / "vllm" / "_C_cpu.so").is_file():
        return
    folder = tempfile.TemporaryDirectory(prefix="vllm-kernels-")
    config.add_cleanup(folder.cleanup)
    _build(Path(folder.name))
    os.environ["VLLM_KERNEL_DIR"] = folder.name
    config.add_cleanup(lambda: os.environ.pop("VLLM_KERNEL_DIR", None))


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(20)
