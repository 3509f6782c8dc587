# SPDX-License-Identifier: Apache-2.0
"""The table behind rotary embedding: cosines and sines of every position.

Owns the frequencies and their scalings for long contexts. Must not know attention.

A table is for all requests and is made once, for the positions that the engine serves. Scalings
whose authors choose by the length of each sequence (dynamic NTK, LongRoPE) are therefore chosen by
the longest length served: keys in the cache must not depend on what follows them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vllm.models.config import RopeConfig


def inverse_frequencies(rope: RopeConfig, max_position: int = 0) -> Tensor:
    """f64 [dim / 2]: theta^(-2i/dim), scaled as the configuration says for `max_position`."""
    if rope.scaling == "dynamic":
        return _powers(_dynamic_base(rope, max_position), rope.dim)
    frequencies = _powers(rope.theta, rope.dim)
    if rope.scaling == "linear":
        frequencies = frequencies / rope.factor
    elif rope.scaling == "llama3":
        frequencies = _llama3(frequencies, rope)
    elif rope.scaling == "yarn":
        frequencies = _yarn(frequencies, rope)
    if rope.short_factors:
        long = max_position > rope.original_max_position
        factors = rope.long_factors if long else rope.short_factors
        frequencies = frequencies / torch.tensor(factors, dtype=torch.float64)
    return frequencies


def _powers(base: float, dim: int) -> Tensor:
    return base ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim)


def _dynamic_base(rope: RopeConfig, max_position: int) -> float:
    """NTK-aware scaling: the base that stretches the lowest frequency over what is served and
    leaves the highest (bloc97 2023); the trained base up to the trained length.
    """
    if max_position <= rope.original_max_position:
        return rope.theta
    stretch = rope.factor * max_position / rope.original_max_position - (rope.factor - 1)
    return rope.theta * stretch ** (rope.dim / (rope.dim - 2))


def _llama3(frequencies: Tensor, rope: RopeConfig) -> Tensor:
    """Llama 3.1's rule: low frequencies divided by `factor`, high ones kept, a ramp between."""
    wavelengths = 2 * math.pi / frequencies
    turns = rope.original_max_position / wavelengths
    low, high = rope.low_freq_factor, rope.high_freq_factor
    share = ((turns - low) / (high - low)).clamp(0.0, 1.0)
    return frequencies * (share + (1.0 - share) / rope.factor)


def _yarn(frequencies: Tensor, rope: RopeConfig) -> Tensor:
    """YaRN (Peng et al. 2023, arXiv 2309.00071), section 3.2: dimensions that turn more than
    `beta_fast` times in the trained length are kept, those below `beta_slow` are divided by
    `factor`, with a ramp between, over the index of the dimension.
    """

    def index(turns: float) -> float:
        wavelength = rope.original_max_position / (2 * math.pi * turns)
        return rope.dim * math.log(wavelength) / (2 * math.log(rope.theta))

    low, high = index(rope.beta_fast), index(rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rope.dim - 1)
    if low == high:
        high += 0.001  # a step instead of a ramp
    ramp = (torch.arange(rope.dim // 2, dtype=torch.float64) - low) / (high - low)
    divided = ramp.clamp(0.0, 1.0)
    return frequencies * (1.0 - divided) + frequencies / rope.factor * divided


def cos_sin_table(rope: RopeConfig, max_position: int) -> Tensor:
    """f32 [max_position, dim]: cosines of all frequencies, then sines."""
    positions = torch.arange(max_position, dtype=torch.float64)
    angles = torch.outer(positions, inverse_frequencies(rope, max_position))
    table = torch.cat([angles.cos(), angles.sin()], dim=1) * rope.attention_factor
    return table.to(torch.float32)
