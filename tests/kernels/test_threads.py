# SPDX-License-Identifier: Apache-2.0
"""Threads: results do not depend on their number, callers may be many, idle ones cost nothing."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest
import torch

from tests.kernels import reference
from vllm.kernels import ops

CSRC = Path(__file__).resolve().parents[2] / "csrc"


@pytest.fixture(autouse=True)
def _restore_threads():
    before = ops.get_num_threads()
    yield
    ops.set_num_threads(before)


def layer(x, packed):
    hidden, out = torch.empty(x.shape[0], 192), torch.empty(x.shape[0], 96)
    ops.quant_linear(hidden, x, packed, ops.GGML_Q4_1, 192, 64)
    ops.silu_and_mul(out, hidden)
    return out


def test_results_do_not_depend_on_the_number_of_threads():
    x = torch.randn(70, 64)
    packed = ops.quant_repack(
        reference.random_blocks(ops.GGML_Q4_1, 192, 64), ops.GGML_Q4_1, 192, 64
    )
    results = []
    for threads in (1, 2, 3, 8):
        ops.set_num_threads(threads)
        assert ops.get_num_threads() == threads
        results.append(layer(x, packed))
    assert all(torch.equal(result, results[0]) for result in results)


def test_concurrent_callers():
    """Also with a resize in between: no call is lost, none sees another's work."""
    ops.set_num_threads(3)
    packed = ops.quant_repack(
        reference.random_blocks(ops.GGML_Q4_1, 192, 64), ops.GGML_Q4_1, 192, 64
    )
    inputs = [torch.randn(9, 64) for _ in range(4)]
    wanted = [layer(x, packed) for x in inputs]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(150):
            if not torch.equal(layer(inputs[i], packed), wanted[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for n in (2, 4, 1, 3):
        ops.set_num_threads(n)
    for thread in threads:
        thread.join()
    assert not wrong


def test_idle_threads_sleep():
    """Workers must stop spinning: far less CPU than wall time while nothing is asked of them."""
    ops.set_num_threads(4)
    packed = ops.quant_repack(
        reference.random_blocks(ops.GGML_Q4_1, 192, 64), ops.GGML_Q4_1, 192, 64
    )
    layer(torch.randn(64, 64), packed)
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    threading.Event().wait(0.5)
    after, wall = resource.getrusage(resource.RUSAGE_SELF), time.monotonic() - start
    used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    assert used < 0.2 * wall


def test_a_forked_child_still_computes():
    """Workers do not survive a fork; the caller does all the work itself then."""
    ops.set_num_threads(2)
    packed = ops.quant_repack(
        reference.random_blocks(ops.GGML_Q4_1, 192, 64), ops.GGML_Q4_1, 192, 64
    )
    x = torch.randn(33, 64)
    wanted = layer(x, packed)
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(layer(x, packed), wanted) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_sanitizers_find_no_fault_in_the_pool(tmp_path, sanitizer):
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler on PATH")
    sources = [Path(__file__).with_name("thread_pool_races.cpp"), CSRC / "cpu" / "thread_pool.cpp"]
    program = tmp_path / "races"
    flags = ["-std=c++20", "-O1", "-g", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    built = subprocess.run(
        [compiler, *flags, f"-I{CSRC}", *map(str, sources), "-pthread", "-o", str(program)],
        capture_output=True,
        text=True,
        check=False,
    )
    if "cannot find" in built.stderr:  # the linker's word for a missing libtsan or libasan
        pytest.skip(f"{compiler} has no runtime for -fsanitize={sanitizer}")
    assert built.returncode == 0, built.stderr
    done = subprocess.run([program], capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("n", [0, -1, 1025])
def test_numbers_of_threads_that_are_refused(n):
    with pytest.raises(RuntimeError, match=rf"set_num_threads: n is {n}, expected 1 to 1024"):
        ops.set_num_threads(n)
