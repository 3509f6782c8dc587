# SPDX-License-Identifier: Apache-2.0
"""GGUF as a checkpoint: its metadata as `ModelConfig`, its tensors under Hugging Face's names.

Owns the reader. Must not know layers. Metadata and names are translated in `gguf_config` and
`gguf_names`.
"""

from __future__ import annotations

from pathlib import Path

import torch

from vllm.loader.checkpoint import ModelLoadError
from vllm.loader.gguf_config import read_config
from vllm.loader.gguf_file import GGUFError, GGUFFile
from vllm.loader.gguf_names import gguf_name
from vllm.models.config import ModelConfig
from vllm.quantization.weight import DENSE_DTYPES, Weight, check_supported


class GGUFCheckpoint:
    """Tensors stay in the memory map; packed ones stay packed."""

    def __init__(self, path: Path) -> None:
        self.file = _open(path)
        self.config = _config(self.file)

    @staticmethod
    def read_config(path: Path) -> ModelConfig:
        return _config(_open(path))

    def has(self, name: str) -> bool:
        return self._stored(name) in self.file.tensors

    def names(self) -> list[str]:
        return list(self.file.tensors)

    @property
    def nbytes(self) -> int:
        return sum(info.nbytes for info in self.file.tensors.values())

    def release(self) -> None:
        self.file.drop_pages()

    def _stored(self, name: str) -> str:
        return gguf_name(name, self.config.architecture)

    def get(self, name: str) -> Weight:
        stored = self._stored(name)
        try:
            info = self.file.info(stored)
            raw = self.file.tensor_bytes(stored)
        except GGUFError as error:
            raise ModelLoadError(str(error)) from None
        check_supported(info.type.number, stored)
        if info.nbytes == 0:
            raise ModelLoadError(f"{self.file.path}: tensor {stored!r} has no elements")
        data = torch.frombuffer(raw, dtype=torch.uint8)
        if info.type.number in DENSE_DTYPES:
            data = data.view(DENSE_DTYPES[info.type.number]).view(info.shape)
        return Weight(data, info.type.number, info.shape, name)


def _open(path: Path) -> GGUFFile:
    try:
        return GGUFFile(path)
    except GGUFError as error:
        raise ModelLoadError(str(error)) from None


def _config(file: GGUFFile) -> ModelConfig:
    try:
        return read_config(file)
    except GGUFError as error:
        raise ModelLoadError(str(error)) from None
