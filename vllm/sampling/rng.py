# SPDX-License-Identifier: Apache-2.0
"""Random numbers that depend on a request's seed and the position of a token, and on nothing else.

Owns the generator. It has no state, so what a request draws cannot depend on which other requests
share its step, on preemption or on the order of steps.
"""

from __future__ import annotations

import numpy as np

# SplitMix64 (Steele, Lea, Flood 2014): the increment and the two multipliers of its finalizer.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * _MIX1
    x = (x ^ (x >> np.uint64(27))) * _MIX2
    return x ^ (x >> np.uint64(31))


def uniform(seeds: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """f64 in [0, 1): one number per (seed, position), both u64 of one shape.

    The seed is mixed before the position is added, so that neighbouring seeds do not draw each
    other's numbers one position later. 53 bits fill the mantissa of a double.
    """
    streams = _mix(seeds + _GOLDEN)
    bits = _mix(streams + (positions + np.uint64(1)) * _GOLDEN)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def seed_bits(seed: int) -> int:
    """Any integer seed as 64 bits."""
    return seed & 0xFFFF_FFFF_FFFF_FFFF
