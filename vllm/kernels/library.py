# SPDX-License-Identifier: Apache-2.0
"""Finds and loads the operator libraries `_C_cpu.so` and `_C_cuda.so`."""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable
from pathlib import Path

import torch

logger = logging.getLogger("vllm.kernels")

BUILD_HINT = "build it with `cmake -S csrc -B build/csrc && cmake --build build/csrc`"


class KernelLibraryError(ImportError):
    """A compiled kernel library is missing, can't be loaded or can't run here."""


def kernel_dir() -> Path:
    """The folder of the libraries: VLLM_KERNEL_DIR, or the one of the package."""
    override = os.environ.get("VLLM_KERNEL_DIR")
    return Path(override) if override else Path(__file__).resolve().parent.parent


def load_cpu() -> str:
    """Loads the CPU library, which also declares every op, and returns the name of its ISA."""
    path = kernel_dir() / "_C_cpu.so"
    if not path.is_file():
        raise KernelLibraryError(f"kernel library {path} does not exist: {BUILD_HINT}")
    _load(path)
    try:
        isa = torch.ops.vllm_kernels.cpu_isa()
    except RuntimeError as error:
        raise KernelLibraryError(str(error)) from error
    logger.info("CPU kernels: %s (%s)", isa, path)
    return isa


def cpu_replay() -> Callable[[int], bytes | None]:
    """What makes a recording's calls again and returns None, or why it could not.

    No op: torch's way to one costs 14 us where the caches are cold, as after every step.
    """
    path = kernel_dir() / "_C_cpu.so"
    try:
        replay = ctypes.CDLL(str(path)).vllm_cpu_replay
    except AttributeError as error:
        raise KernelLibraryError(f"kernel library {path} is too old: {BUILD_HINT}") from error
    replay.argtypes, replay.restype = [ctypes.c_int64], ctypes.c_char_p
    return replay


def load_cuda() -> bool:
    """Loads the CUDA library where there is one and a GPU to use it; whether it did."""
    path = kernel_dir() / "_C_cuda.so"
    if not path.is_file() or not torch.cuda.is_available():
        return False
    _load(path)
    logger.info("CUDA kernels: %s", path)
    return True


def _load(path: Path) -> None:
    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        raise KernelLibraryError(
            f"kernel library {path} can't be loaded into torch {torch.__version__}: {error}; "
            f"it may have been built for another torch: {BUILD_HINT}"
        ) from error
