# SPDX-License-Identifier: Apache-2.0
"""Quantized linear layers and the widening of GGUF blocks against float64."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from tests.kernels import reference
from vllm.kernels import ops

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
ROUNDING = {torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}

# Up to 8 rows go one way, up to 64 another, 32 at a time, more a third, 64 at a time (16 bits). 16
# rows of weights are a tile, 8 slices of 4 runs of 32 columns a warp each: 32 columns leave most
# warps idle, 1,184 is 37 runs.
SHAPES = [
    (1, 16, 32),
    (1, 50, 576),
    (3, 33, 1184),
    (8, 31, 128),
    (9, 40, 64),
    (37, 96, 288),
    (70, 40, 320),
]

every_type = pytest.mark.parametrize("qtype", reference.QTYPES, ids=reference.NAMES.get)


def rows(columns: int, count: int, dtype: torch.dtype, device: str) -> torch.Tensor:
    """A [count, columns] slice of a wider tensor whose rows start on a multiple of 8 elements."""
    return torch.randn(count, columns + 8).to(device, dtype)[:, :columns]


def multiply(cuda, x, raw, qtype, n, bias=None):
    k = x.shape[1]
    packed = ops.quant_repack(raw, qtype, n, k).to(cuda.device)
    out = torch.full((x.shape[0], n + 3), torch.nan, dtype=x.dtype, device=cuda.device)[:, :n]
    bias = None if bias is None else bias.to(cuda.device)
    cuda.quant_linear(out, x, packed, qtype, n, k, bias, 0)
    return out.double().cpu()


def slack(x, weight, expected):
    """A float32 sum of k products, in steps of the largest partial sum; then one rounding. Tensor
    cores cut where float32 arithmetic rounds.
    """
    sums = x.double().cpu().abs() @ weight.abs().T
    steps = 4 * x.shape[1] ** 0.5 * reference.F32_EPS
    return steps * sums + expected.abs() * ROUNDING[x.dtype] + 1e-6


@every_type
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "n", "k"), SHAPES)
def test_quant_linear(cuda, m, n, k, dtype, qtype):
    k = reference.columns_for(qtype, k)
    x, raw = rows(k, m, dtype, cuda.device), reference.random_blocks(qtype, n, k)
    weight, bias = reference.dequantize(raw, qtype), torch.randn(n)
    expected = x.double().cpu() @ weight.T
    error = (multiply(cuda, x, raw, qtype, n) - expected).abs()
    assert (error <= slack(x, weight, expected)).all(), (error / slack(x, weight, expected)).max()
    expected += bias
    error = (multiply(cuda, x, raw, qtype, n, bias) - expected).abs()
    assert (error <= slack(x, weight, expected)).all()


@every_type
def test_rows_of_activations_anywhere(cuda, qtype):
    k = reference.columns_for(qtype, 96)
    storage = torch.randn(3, k + 5).to(cuda.device)
    x, raw = storage[:, 1 : k + 1], reference.random_blocks(qtype, 20, k)
    weight = reference.dequantize(raw, qtype)
    expected = x.double().cpu() @ weight.T
    error = (multiply(cuda, x, raw, qtype, 20) - expected).abs()
    assert (error <= slack(x, weight, expected)).all()


@every_type
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_does_not_depend_on_the_others(cuda, dtype, qtype):
    x, raw = rows(768, 67, dtype, cuda.device), reference.random_blocks(qtype, 48, 768)
    together = multiply(cuda, x, raw, qtype, 48)
    for part in (slice(0, 1), slice(66, 67), slice(3, 11), slice(5, 38)):
        assert torch.equal(multiply(cuda, x[part], raw, qtype, 48), together[part])


@every_type
def test_extreme_blocks(cuda, qtype):
    """The largest and the smallest quants with the largest activations and tiny scales."""
    columns, size = ops.QUANT_BLOCKS[qtype]
    k = 2 * columns
    raw = reference.random_blocks(qtype, 32, k)
    blocks = raw.view(32, 2, size)
    kept = {p: blocks[..., p : p + 2].clone() for p in reference.HALVES[qtype]}
    blocks[:16], blocks[4:8], blocks[8:12] = 255, 127, 128
    for place, halves in kept.items():
        blocks[..., place : place + 2] = halves
        blocks[::2, :, place : place + 2] = torch.tensor([2.0**-24 * 5]).half().view(torch.uint8)
    x = torch.stack([torch.zeros(k), torch.full((k,), 3e4), torch.full((k,), -3e4)])
    weight = reference.dequantize(raw, qtype)
    error = (multiply(cuda, x.to(cuda.device), raw, qtype, 32) - x.double() @ weight.T).abs()
    assert (error <= 2e-5 * (x.double().abs() @ weight.abs().T) + 2e-2).all()


def test_activations_that_are_no_numbers_stay_what_they_are(cuda):
    raw = reference.random_blocks(ops.GGML_Q8_0, 16, 64)
    x = torch.ones(3, 64)
    x[0, 5], x[1, 40] = torch.nan, torch.inf
    out = multiply(cuda, x.to(cuda.device), raw, ops.GGML_Q8_0, 16)
    assert out[0].isnan().all()
    assert not out[1].isfinite().any()
    assert out[2].isfinite().all()


@every_type
@pytest.mark.parametrize("dtype", DTYPES)
def test_dequantize(cuda, dtype, qtype):
    k = reference.columns_for(qtype, 96)
    raw = reference.random_blocks(qtype, 31, k)
    out = torch.full((31, k), torch.nan, dtype=dtype, device=cuda.device)
    cuda.dequantize(out, raw.to(cuda.device), qtype)
    rounding = 4 * ROUNDING[dtype]
    assert_close(out.double().cpu(), reference.dequantize(raw, qtype), rtol=rounding, atol=1e-6)


@every_type
@pytest.mark.parametrize("dtype", DTYPES)
def test_quant_unpack(cuda, dtype, qtype):
    """Of a whole matrix, and of its rows from 32 on."""
    k = reference.columns_for(qtype, 96)
    raw = reference.random_blocks(qtype, 55, k)
    packed = ops.quant_repack(raw, qtype, 55, k).to(cuda.device)
    expected, rounding = reference.dequantize(raw, qtype), 4 * ROUNDING[dtype]
    for first in (0, 32):
        out = torch.full((55 - first, k), torch.nan, dtype=dtype, device=cuda.device)
        cuda.quant_unpack(out, packed[first * len(packed) // 64 :], qtype)
        assert_close(out.double().cpu(), expected[first:], rtol=rounding, atol=1e-6)


@every_type
@pytest.mark.parametrize("dtype", DTYPES)
def test_embedding_of_a_quantized_table(cuda, dtype, qtype):
    k = reference.columns_for(qtype, 320)
    raw, ids = reference.random_blocks(qtype, 40, k), torch.tensor([39, 0, 40, 7, -1])
    out = torch.zeros(5, k + 8, dtype=dtype, device=cuda.device)[:, :k]
    cuda.embedding_dequantize(out, ids.to(cuda.device), raw.to(cuda.device), qtype)
    expected = reference.dequantize(raw, qtype)[[39, 0, 7]]
    found = out.double().cpu()
    assert_close(found[[0, 1, 3]], expected, rtol=4 * ROUNDING[dtype], atol=1e-6)
    assert found[[2, 4]].isnan().all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("qtype", "stored"),
    [(ops.GGML_F32, DTYPES[0]), (ops.GGML_F16, DTYPES[1]), (ops.GGML_BF16, DTYPES[2])],
)
def test_embedding_of_a_dense_table(cuda, qtype, stored, dtype):
    table, ids = torch.randn(9, 300).to(stored), torch.tensor([8, 0, 3, 9])
    out = torch.zeros(4, 300, dtype=dtype, device=cuda.device)
    cuda.embedding_dequantize(out, ids.to(cuda.device), table.to(cuda.device), qtype)
    assert torch.equal(out[:3].cpu(), table[ids[:3]].to(dtype))
    assert out[3].isnan().all()


def test_no_rows(cuda):
    raw = reference.random_blocks(ops.GGML_Q4_0, 16, 32)
    x = torch.empty(0, 32, device=cuda.device)
    assert multiply(cuda, x, raw, ops.GGML_Q4_0, 16).shape == (0, 16)


@pytest.mark.gpu
@every_type
@pytest.mark.parametrize("m", [1, 30, 300])
def test_large_matrices(gpu, m, qtype):
    x, raw = rows(8192, m, torch.bfloat16, "cuda"), reference.random_blocks(qtype, 1100, 8192)
    weight = reference.dequantize(raw, qtype)
    expected = (x.double() @ weight.cuda().T).cpu()
    error = (multiply(gpu, x, raw, qtype, 1100) - expected).abs()
    assert (error <= slack(x, weight, expected)).all()
