# SPDX-License-Identifier: Apache-2.0
"""Packed matrices multiplied piece by piece, with a stand-in for the kernel that unpacks them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tests.kernels.reference import dequantize, random_blocks
from vllm.kernels import ops
from vllm.layers import unpacked

CPU = torch.device("cpu")


def unpack(out: Tensor, packed: Tensor, qtype: int) -> None:
    """Of the CPU's kernel: what the unit vectors are multiplied with."""
    n, k = out.shape
    columns = torch.empty(k, n)
    ops.quant_linear(columns, torch.eye(k), packed, qtype, n, k)
    out.copy_(columns.T)


@pytest.mark.parametrize("qtype", [ops.GGML_Q4_0, ops.GGML_Q8_0, ops.GGML_Q6_K])
@pytest.mark.parametrize("rows", [5, 48, 150])
@pytest.mark.parametrize("tiles", [1, 3, 100])
def test_pieces_of_whole_tiles(
    tiles: int, rows: int, qtype: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacked, "PIECE_BYTES", tiles * 16 * 256 * 4)
    monkeypatch.setattr(ops, "quant_unpack", unpack)
    raw, x = random_blocks(qtype, rows, 256), torch.randn(40, 256)
    out = torch.full((40, rows + 3), torch.nan)[:, :rows]
    packed = ops.quant_repack(raw, qtype, rows, 256)
    unpacked.Unpacked(torch.float32, CPU).multiply(out, x, packed, qtype)
    assert_close(out.double(), x.double() @ dequantize(raw, qtype).T, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("rows", [5, 48, 150])
def test_pieces_of_fp8(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacked, "PIECE_BYTES", 48 * 256 * 4)
    weight, scales = torch.randn(rows, 256).to(torch.float8_e4m3fn), torch.rand(rows)
    x, out = torch.randn(40, 256), torch.full((40, rows + 3), torch.nan)[:, :rows]
    unpacked.Unpacked(torch.float32, CPU).multiply_fp8(out, x, weight, scales)
    expected = x.double() @ (weight.double() * scales[:, None]).T
    assert_close(out.double(), expected, rtol=1e-4, atol=1e-3)


def test_sums_of_fp8_stay_within_float16() -> None:
    """Without its scale a sum of 4,096 products is far above 65,504 where the result is 14."""
    weight = torch.full((2, 4096), 448.0).to(torch.float8_e4m3fn)
    weight[1] = 2.0**-9  # the least number there is
    x, out = torch.full((1, 4096), 0.5, dtype=torch.float16), torch.empty(1, 2, dtype=torch.float16)
    scales = torch.tensor([2.0**-16, 2.0])
    unpacked.Unpacked(torch.float16, CPU).multiply_fp8(out, x, weight, scales)
    assert_close(out, torch.tensor([[14.0, 8.0]], dtype=torch.float16))
