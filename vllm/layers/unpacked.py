# SPDX-License-Identifier: Apache-2.0
"""Packed matrices on a GPU for many rows: made dense piece by piece, each multiplied by torch.

Owns the memory of a piece. Must not know which matrices there are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vllm.kernels import ops
from vllm.layers.matmul import matmul

# From so many rows on. An H100 took 51 us for 32 rows and Q4_K 4096 x 4096 with `ops.quant_linear`,
# 974 us for 2,048; torch.mm with dense weights 15 and 99, and bytes to unpack some 20 us.
MANY_ROWS = 32
# Of a piece: what stays in the L2 cache (H100: 50 MiB) until it is multiplied, and still fills the
# device: 4,096 rows of 4,096 columns.
PIECE_BYTES = 32 << 20
TILE_ROWS = 16  # of a packed matrix; pieces are whole tiles
# An e4m3 number goes up to 448, and sums of such weights overflow float16 where the layer's result
# is small. Times this they stay below, and the least number, 2^-9, becomes float16's least: each
# one is exact.
FP8_STEP = 2.0**-15


class Unpacked:
    """Room for a piece of any packed matrix in the dtype of the activations."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self._room = torch.empty(PIECE_BYTES // dtype.itemsize, dtype=dtype, device=device)

    def multiply_fp8(self, out: Tensor, x: Tensor, weight: Tensor, scales: Tensor) -> None:
        """out [T, n] = x [T, k] times e4m3 [n, k] and scales f32 [n]; no weight is rounded."""
        n, k = weight.shape
        most = max(1, self._room.numel() // k)
        for first in range(0, n, most):
            piece = weight[first : first + most]
            dense = self._room[: piece.numel()].view(piece.shape).copy_(piece).mul_(FP8_STEP)
            matmul(out[:, first : first + most], x, dense)
        out.mul_(scales / FP8_STEP)

    def multiply(self, out: Tensor, x: Tensor, packed: Tensor, qtype: int) -> None:
        """out [T, n] = x [T, k] times the packed matrix [n, k], whose weights are rounded to x's
        dtype; out may be float32.
        """
        (_, n), k = out.shape, x.shape[1]
        tile = packed.numel() // -(-n // TILE_ROWS)  # bytes of 16 rows
        most = max(1, self._room.numel() // (TILE_ROWS * k)) * TILE_ROWS
        for first in range(0, n, most):
            rows = min(most, n - first)
            dense = self._room[: rows * k].view(rows, k)
            start, tiles = first // TILE_ROWS * tile, -(-rows // TILE_ROWS)
            ops.quant_unpack(dense, packed[start : start + tiles * tile], qtype)
            matmul(out[:, first : first + rows], x, dense)
