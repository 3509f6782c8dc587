# SPDX-License-Identifier: Apache-2.0
"""A model's weights by name, wherever they come from.

Owns the interface that models load through and the choice of reader for a path. Tensors have the
names of Hugging Face's Llama ("model.layers.0.self_attn.q_proj.weight") whatever the file calls
them. Must not know layers or what a name is for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch

from vllm.errors import ModelError
from vllm.models.config import ModelConfig
from vllm.quantization.weight import Weight


class ModelLoadError(ModelError):
    """A model that cannot be loaded; says which file, what is wrong with it and what would do."""


class Checkpoint(Protocol):
    """Read access to one model. `get` raises `ModelLoadError` for a missing tensor."""

    config: ModelConfig

    def has(self, name: str) -> bool: ...
    def get(self, name: str) -> Weight: ...
    def names(self) -> list[str]: ...
    @property
    def nbytes(self) -> int:
        """Of all tensors as they are stored, about."""

    def release(self) -> None:
        """Let go of memory that only loading needed; tensors stay readable."""


def expect_shape(weight: Weight, name: str, shape: tuple[int, ...]) -> Weight:
    """The weight, if its shape is what the configuration says it is."""
    if weight.shape != shape:
        raise ModelLoadError(
            f"tensor {name!r} has shape {list(weight.shape)}, the configuration says {list(shape)}"
        )
    return weight


def open_checkpoint(
    path: str | Path,
    load_format: str = "auto",
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Checkpoint:
    """Open a GGUF file or a model directory.

    `load_format` "dummy" takes the configuration alone and makes weights up from `seed`, on
    `device`.
    """
    from vllm.loader.dummy import DummyCheckpoint  # noqa: PLC0415 - readers load on demand
    from vllm.loader.gguf_checkpoint import GGUFCheckpoint  # noqa: PLC0415
    from vllm.loader.hf_checkpoint import HFCheckpoint  # noqa: PLC0415

    path = Path(path)
    if not path.exists():
        raise ModelLoadError(f"{path}: no such model file or directory")
    reader = HFCheckpoint if path.is_dir() else GGUFCheckpoint
    if load_format == "dummy":
        return DummyCheckpoint(reader.read_config(path), seed, device)
    return reader(path)
