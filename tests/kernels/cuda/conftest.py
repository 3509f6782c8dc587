# SPDX-License-Identifier: Apache-2.0
"""Fixtures that run a test on the emulated kernels and on the GPU."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import pytest
import torch

from tests.kernels.cuda import backends

ON_DEVICE = pytest.param("device", marks=pytest.mark.gpu)


@functools.cache
def emulated() -> backends.Emulated:
    with tempfile.TemporaryDirectory(prefix="vllm-cuda-emulated-") as folder:
        return backends.Emulated(backends.build_emulated(Path(folder)))


@functools.cache
def device() -> backends.Device:
    backends.load_libraries()
    return backends.Device()


def skip_because(reason: str | None) -> None:
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture
def gpu() -> backends.Device:
    """The compiled ops; skips where they can't run."""
    skip_because(None if torch.cuda.is_available() else "no CUDA device")
    skip_because(backends.missing_library())
    return device()


@pytest.fixture(params=["emulated", ON_DEVICE])
def cuda(request: pytest.FixtureRequest) -> backends.Device | backends.Emulated:
    """The ops of one backend; `cuda.device` is where their tensors have to be."""
    if request.param == "device":
        return request.getfixturevalue("gpu")
    skip_because(backends.missing_emulation())
    return emulated()


@pytest.fixture
def built_library() -> Path:
    """The path of _C_cuda.so, loaded after _C_cpu.so; needs no GPU."""
    skip_because(backends.missing_library())
    device()
    return backends.CUDA_LIBRARY
