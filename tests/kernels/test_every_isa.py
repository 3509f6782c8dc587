# SPDX-License-Identifier: Apache-2.0
"""Runs the op tests once more on each ISA that is not this process's own.

A process has one ISA, chosen when the library loads, so each needs a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vllm.kernels import ops

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("isa", ["scalar", "avx2", "avx512", "amx"])
def test_isa(isa):
    if isa == ops.CPU_ISA:
        pytest.skip(f"{isa} is the ISA of this process: its tests are the others of this run")
    probe = run("-c", "import vllm.kernels.ops", VLLM_CPU_ISA=isa)
    if probe.returncode != 0 and "does not support" in probe.stderr:
        pytest.skip(f"this CPU or build does not support {isa}")
    assert probe.returncode == 0, probe.stderr
    # This file would start itself again; the others do not depend on the ISA of a process.
    others = (Path(__file__), HERE / "cuda", HERE / "test_any_cpu.py")
    ignored = [f"--ignore={path}" for path in others]
    pytest_ = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = run(*pytest_, *ignored, str(HERE), VLLM_CPU_ISA=isa)
    assert done.returncode == 0, f"{isa}:\n{done.stdout}\n{done.stderr}"


def test_unknown_isa_is_refused_by_name():
    done = run("-c", "import vllm.kernels.ops", VLLM_CPU_ISA="sse9")
    assert done.returncode != 0
    assert "VLLM_CPU_ISA is 'sse9', which is not known; accepted here: scalar" in done.stderr


def test_forced_isa_is_the_one_that_runs():
    done = run("-c", "from vllm.kernels import ops; print(ops.CPU_ISA)", VLLM_CPU_ISA="scalar")
    assert done.stdout.strip() == "scalar"


def test_missing_library_says_how_to_build_it(tmp_path):
    done = run("-c", "import vllm.kernels.ops", VLLM_KERNEL_DIR=str(tmp_path))
    assert (
        f"kernel library {tmp_path}/_C_cpu.so does not exist: build it with `cmake" in done.stderr
    )


def test_damaged_library_is_named(tmp_path):
    (tmp_path / "_C_cpu.so").write_bytes(b"not a library")
    done = run("-c", "import vllm.kernels.ops", VLLM_KERNEL_DIR=str(tmp_path))
    assert f"kernel library {tmp_path}/_C_cpu.so can't be loaded into torch" in done.stderr


def test_kernels_import_nothing_of_the_engine():
    code = (
        "import sys; import vllm.kernels.ops; print('msgspec' in sys.modules, 'zmq' in sys.modules)"
    )
    assert run("-c", code).stdout.split() == ["False", "False"]
