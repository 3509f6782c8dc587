# SPDX-License-Identifier: Apache-2.0
"""The engine on a GPU, end to end. Everything here is skipped, with its reason, where none is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vllm.kernels.library import kernel_dir

HERE = Path(__file__).parent


def missing() -> str | None:
    """Why nothing here can run."""
    if not torch.cuda.is_available():
        return "no CUDA device"
    library = kernel_dir() / "_C_cuda.so"
    if not library.is_file():
        return f"{library} is not built: cmake -S csrc -B build/csrc -DVLLM_CUDA=ON"
    return None


@pytest.hookimpl(tryfirst=True)  # before `-m` looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = missing()
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if reason is not None:
                item.add_marker(pytest.mark.skip(reason=reason))
