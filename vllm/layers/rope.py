# SPDX-License-Identifier: Apache-2.0
"""The table behind rotary embedding: cosines and sines of every position.

Owns the frequencies and their scalings for long contexts. Must not know attention.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vllm.models.config import RopeConfig


def inverse_frequencies(rope: RopeConfig) -> Tensor:
    """f64 [dim / 2]: theta^(-2i/dim), scaled as the configuration says."""
    exponents = torch.arange(0, rope.dim, 2, dtype=torch.float64) / rope.dim
    frequencies = rope.theta**-exponents
    if rope.scaling == "linear":
        return frequencies / rope.factor
    if rope.scaling == "llama3":
        return _llama3(frequencies, rope)
    return frequencies


def _llama3(frequencies: Tensor, rope: RopeConfig) -> Tensor:
    """Llama 3.1's rule: low frequencies divided by `factor`, high ones kept, a ramp between."""
    wavelengths = 2 * math.pi / frequencies
    turns = rope.original_max_position / wavelengths
    low, high = rope.low_freq_factor, rope.high_freq_factor
    share = ((turns - low) / (high - low)).clamp(0.0, 1.0)
    return frequencies * (share + (1.0 - share) / rope.factor)


def cos_sin_table(rope: RopeConfig, max_position: int) -> Tensor:
    """f32 [max_position, dim]: cosines of all frequencies, then sines."""
    positions = torch.arange(max_position, dtype=torch.float64)
    angles = torch.outer(positions, inverse_frequencies(rope))
    return torch.cat([angles.cos(), angles.sin()], dim=1).to(torch.float32)
