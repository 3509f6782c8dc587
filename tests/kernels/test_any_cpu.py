# SPDX-License-Identifier: Apache-2.0
"""No CPU meets an instruction it lacks: the kernels alone, under emulated CPUs.

`any_cpu.cpp` runs every kernel of the table the library chooses. qemu's user mode (the Debian
package qemu-user) raises SIGILL for what the CPU it plays lacks; it plays none with AVX-512.
`amx_emulation.cpp` plays AMX itself, on a CPU with AVX-512.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vllm.kernels import ops

CSRC = Path(__file__).resolve().parents[2] / "csrc"
SIGILL = -4
CPUS = {"Haswell": "avx2", "Nehalem": "scalar", "qemu64": "scalar"}


@pytest.fixture(scope="module")
def qemu() -> str:
    found = shutil.which("qemu-x86_64")
    if found is None:
        pytest.skip("no qemu-x86_64 on PATH (Debian: apt-get install qemu-user)")
    return found


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Compiles a target by its name."""
    folders = [str(Path(sys.executable).parent), os.environ["PATH"]]
    tool = shutil.which("cmake", path=os.pathsep.join(folders))
    if tool is None:
        pytest.skip("no cmake on PATH")
    folder = tmp_path_factory.mktemp("any_cpu")
    options = ["-DVLLM_CUDA=OFF", f"-DPython3_EXECUTABLE={sys.executable}"]
    succeed(tool, "-S", str(CSRC), "-B", str(folder), *options)

    def target(name: str) -> Path:
        succeed(tool, "--build", str(folder), "--target", name, "--parallel", "2")
        return folder / name

    return target


@pytest.fixture(scope="module")
def program(build: Callable[[str], Path]) -> Path:
    return build("any_cpu")


def succeed(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Without a forced ISA: the library is to choose by the CPU it finds."""
    environment = {name: value for name, value in os.environ.items() if name != "VLLM_CPU_ISA"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def check(command: list[str], kernels: str | None) -> None:
    done = run(*command)
    assert done.returncode != SIGILL, f"illegal instruction after:\n{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert kernels is None or done.stdout.startswith(f"kernels: {kernels}\n")
    assert done.stdout.endswith("0 failed\n")


def test_on_this_cpu(program: Path) -> None:
    check([str(program)], None)


@pytest.mark.parametrize("cpu", CPUS)
def test_on_an_emulated_cpu(program: Path, qemu: str, cpu: str) -> None:
    check([qemu, "-cpu", cpu, str(program)], CPUS[cpu])


def test_the_emulation_does_refuse_what_a_cpu_lacks(program: Path, qemu: str) -> None:
    command = (str(program), "any argument")
    assert run(qemu, "-cpu", "Haswell", *command).returncode == 0
    assert run(qemu, "-cpu", "Nehalem", *command).returncode == SIGILL


def test_tiles_give_the_bits_of_vectors(build: Callable[[str], Path]) -> None:
    if ops.CPU_ISA not in ("avx512", "amx"):
        pytest.skip("this CPU has no AVX-512, which the program needs besides the tiles")
    check([str(build("amx_emulation"))], None)
