# SPDX-License-Identifier: Apache-2.0
"""What is said of a kernel library that is not the one this package was written for."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from vllm.kernels import library


def test_a_library_without_replay_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As left from a build of an older tree: it loads, and lacks a symbol."""
    (tmp_path / "_C_cpu.so").symlink_to(msgspec._core.__file__)  # type: ignore[attr-defined]
    monkeypatch.setenv("VLLM_KERNEL_DIR", str(tmp_path))
    with pytest.raises(library.KernelLibraryError, match=r"_C_cpu\.so is too old: build it with"):
        library.cpu_replay()
