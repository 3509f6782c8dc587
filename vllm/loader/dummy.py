# SPDX-License-Identifier: Apache-2.0
"""Made-up weights for a real configuration: to measure, or to test without a download.

Owns the recipe: normal values of standard deviation 0.02, norms of one, seeded by name. Must
not know files or layers.
"""

from __future__ import annotations

import math
import zlib

import torch

from vllm.models.config import ModelConfig
from vllm.models.shapes import tensor_shapes
from vllm.quantization.weight import Weight


class DummyCheckpoint:
    """Every tensor that the configuration calls for, the same for the same seed and kind of device.

    They are made where they are wanted: a GPU has billions of them in a moment, a CPU in minutes.
    """

    def __init__(
        self, config: ModelConfig, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        self.config = config
        self._seed, self._device = seed, device
        self._shapes = tensor_shapes(config)

    def has(self, name: str) -> bool:
        return name in self._shapes

    def names(self) -> list[str]:
        return list(self._shapes)

    @property
    def nbytes(self) -> int:
        return sum(4 * math.prod(shape) for shape in self._shapes.values())

    def release(self) -> None:
        """Nothing to let go of: tensors are made when they are asked for."""

    def get(self, name: str) -> Weight:
        shape = self._shapes[name]
        if name.endswith("norm.weight"):
            return Weight.dense(torch.ones(shape, device=self._device), name)
        generator = torch.Generator(self._device)
        generator.manual_seed(self._seed ^ zlib.crc32(name.encode()))
        values = torch.randn(shape, generator=generator, device=self._device)
        return Weight.dense(values.mul_(0.02), name)
