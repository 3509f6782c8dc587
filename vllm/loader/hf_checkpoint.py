# SPDX-License-Identifier: Apache-2.0
"""A Hugging Face model directory as a checkpoint: config.json and safetensors.

Owns the directory layout: one file or shards with an index. Must not know layers. Tensors are
views of the memory map that the `safetensors` library makes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from vllm.loader.checkpoint import ModelLoadError
from vllm.loader.mapped_files import drop_pages
from vllm.models.config import ModelConfig
from vllm.models.hf_config import from_hf
from vllm.quantization.weight import Weight

INDEX = "model.safetensors.index.json"
HELD = 256 << 20  # bytes of tensors handed out before their pages are let go of


class HFTensors:
    """Tensors of the shards that the index names, else of all safetensors files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._shard_of = _shards(path)
        self._open: dict[str, Any] = {}
        self._addresses: dict[str, set[int]] = {}  # of each shard's tensors, in our map of it
        self._held = 0

    def has(self, name: str) -> bool:
        return name in self._shard_of

    def names(self) -> list[str]:
        return list(self._shard_of)

    @property
    def nbytes(self) -> int:
        files = (self.path / shard for shard in set(self._shard_of.values()))
        return sum(file.stat().st_size for file in files if file.is_file())

    def release(self) -> None:
        """Pages of the files, of which layers have laid out copies by now."""
        for shard, addresses in self._addresses.items():
            drop_pages(self.path / shard, addresses)
        self._held = 0

    def get(self, name: str) -> Weight:
        if name not in self._shard_of:
            raise ModelLoadError(f"{self.path}: tensor {name!r} is missing")
        shard = self._shard_of[name]
        try:
            data = self._file(shard).get_tensor(name)
        except SafetensorError as error:
            raise ModelLoadError(f"{self.path / shard}: tensor {name!r}: {error}") from None
        self._addresses.setdefault(shard, set()).add(data.data_ptr())
        self._held += data.nbytes
        if self._held > HELD:  # else a large model would be resident twice while it is laid out
            self.release()
        if data.dtype is not torch.float8_e4m3fn:
            return Weight.dense(data, name)
        return Weight.fp8(data, self.get(name + "_scale").data, name)

    def _file(self, shard: str) -> Any:
        if shard not in self._open:
            self._open[shard] = open_safetensors(self.path / shard)
        return self._open[shard]


class HFCheckpoint(HFTensors):
    """Those tensors with the configuration of a decoder."""

    def __init__(self, path: Path) -> None:
        self.config = self.read_config(path)
        super().__init__(path)

    @staticmethod
    def read_config(path: Path) -> ModelConfig:
        source = path / "config.json"
        return from_hf(_read_object(source), str(source))


def open_safetensors(path: Path) -> Any:
    """Open one safetensors file with the library, its errors told with the file's name."""
    if not path.is_file():
        raise ModelLoadError(f"{path}: file is missing")
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ModelLoadError(f"{path}: not a usable safetensors file: {error}") from None


def _shards(path: Path) -> dict[str, str]:
    """Tensor name to file name."""
    if (path / INDEX).is_file():
        weight_map = _read_object(path / INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not all(
            isinstance(shard, str) and Path(shard).name == shard for shard in weight_map.values()
        ):
            raise ModelLoadError(f"{path / INDEX}: weight_map must map names to file names")
        return weight_map
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise ModelLoadError(f"{path}: no *.safetensors file is there")
    return {name: file.name for file in files for name in _names(file)}


def _names(file: Path) -> list[str]:
    return list(open_safetensors(file).keys())


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelLoadError(f"{path}: file is missing") from None
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{path}: not readable JSON: {error}") from None
    if not isinstance(value, dict):
        raise ModelLoadError(f"{path}: a JSON object is expected")
    return value
