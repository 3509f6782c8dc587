# SPDX-License-Identifier: Apache-2.0
"""Dense and quantized linear layers, repacking and widening against float64."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from tests.kernels import reference
from vllm.kernels import ops

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SHAPES = [
    (0, 5, 8), (1, 1, 1), (1, 37, 576), (2, 64, 31), (3, 17, 100), (9, 33, 96), (13, 40, 33),
    (150, 70, 64), (131, 50, 2050),
]  # fmt: skip


def dense(x, weight, bias=None):
    out = torch.full((x.shape[0], weight.shape[0]), torch.nan)
    ops.linear(out, x, reference.tiled(weight), bias)
    return out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "n", "k"), SHAPES)
def test_linear(m, n, k, dtype):
    x, weight, bias = reference.wide(k, m), torch.randn(n, k).to(dtype), torch.randn(n)
    seen = reference.seen_by(x, dtype)
    expected = seen.double() @ weight.double().T
    # Order of an f32 sum: k roundings of partial sums, each about as large as the absolute sum.
    slack = (seen.double().abs() @ weight.double().abs().T) * k**0.5 * reference.F32_EPS + 1e-6
    assert ((dense(x, weight) - expected).abs() <= slack).all()
    assert ((dense(x, weight, bias) - expected - bias).abs() <= slack + 1e-6).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [1, 63, 64])
def test_matrices_packed_below_each_other(k, dtype):
    parts = [torch.randn(n, k).to(dtype) for n in (5, 40, 32, 1)]
    x, packed = torch.randn(4, k), torch.zeros(ops.tiled_shape(dtype, 78, k), dtype=dtype)
    row = 0
    for part in parts:
        ops.linear_pack(packed, part, row)
        row += len(part)
    out = torch.empty(4, 78)
    ops.linear(out, x, packed)
    assert torch.equal(out, torch.cat([dense(x, part) for part in parts], dim=1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_that_are_none_stay_in_their_row_and_column(dtype):
    x, weight = torch.randn(14, 50), torch.randn(70, 50).to(dtype)
    x[3, 7], weight[40, 9] = torch.nan, torch.nan
    found = dense(x, weight).isnan()
    expected = torch.zeros(14, 70, dtype=torch.bool)
    expected[3], expected[:, 40] = True, True
    assert torch.equal(found, expected)


def quantized(x, raw, qtype, n, k, coarse=0):
    out = torch.full((x.shape[0], n), torch.nan)
    ops.quant_linear(out, x, ops.quant_repack(raw, qtype, n, k), qtype, n, k, coarse=coarse)
    return out


QUANT_SHAPES = [
    (0, 16, 32), (1, 16, 32), (1, 1, 32), (1, 50, 576), (2, 576, 1536), (3, 33, 64), (7, 16, 96),
    (8, 31, 128), (9, 40, 64), (32, 960, 576), (131, 48, 160),
]  # fmt: skip
every_type = pytest.mark.parametrize("qtype", reference.QTYPES, ids=reference.NAMES.get)


def summation_slack(seen, weight, qtype):
    """What f32 sums may be off: the 8-bit kernels add 128 to each weight and take it out again, the
    others add up quants from 0 and take the minimum out.
    """
    largest = (256 if qtype == ops.GGML_Q8_0 else 64) * weight.abs().amax()
    return seen.abs().double().sum(-1, keepdim=True) * largest * reference.F32_EPS + 1e-6


@every_type
@pytest.mark.parametrize(("m", "n", "k"), QUANT_SHAPES)
def test_quant_linear(m, n, k, qtype):
    k = reference.columns_for(qtype, k)
    x, raw = reference.wide(k, m), reference.random_blocks(qtype, n, k)
    weight = reference.dequantize(raw, qtype)
    seen = x if ops.CPU_ISA == "scalar" else reference.quantize_activations(x, qtype)
    error = (quantized(x, raw, qtype, n, k) - seen.double() @ weight.T).abs()
    slack = summation_slack(seen, weight, qtype)
    assert (error <= slack).all(), (error / slack).max()


@every_type
@pytest.mark.parametrize(("m", "n", "coarse"), [(1, 50, 32), (9, 64, 64), (40, 50, 50), (3, 16, 0)])
def test_coarse_columns_see_one_digit(m, n, coarse, qtype):
    k = 256
    x, raw = reference.wide(k, m), reference.random_blocks(qtype, n, k)
    weight = reference.dequantize(raw, qtype)
    seen = seen_coarsely = x
    if ops.CPU_ISA != "scalar":
        seen = reference.quantize_activations(x, qtype)
        seen_coarsely = reference.quantize_activations(x, qtype, qtype != ops.GGML_Q6_K)
    expected = seen.double() @ weight.T
    expected[:, :coarse] = (seen_coarsely.double() @ weight.T)[:, :coarse]
    error = (quantized(x, raw, qtype, n, k, coarse) - expected).abs()
    assert (error <= summation_slack(seen, weight, qtype)).all()


@every_type
def test_quantized_activations_stay_within_their_bound(qtype):
    """Half a step of 1/1904 of the block's largest element, or one and a half of 1/127/256,
    weighted with |w|; half a step is rounding, one the end of the low digit's range.
    """
    k = reference.columns_for(qtype, 320)
    x, raw = torch.randn(5, k), reference.random_blocks(qtype, 64, k)
    weight = reference.dequantize(raw, qtype)
    largest = x.reshape(5, -1, 32).abs().amax(-1).repeat_interleave(32, -1).double()
    error = largest * (0.501 / 1904 if qtype in reference.FOUR_BITS else 1.501 / 127 / 256)
    bound = error @ weight.abs().T + 1e-4
    assert ((quantized(x, raw, qtype, 64, k) - x.double() @ weight.T).abs() <= bound).all()


@every_type
def test_extreme_blocks(qtype):
    """All-zero activations, the largest quants with the largest activations, tiny scales."""
    columns, size = ops.QUANT_BLOCKS[qtype]
    k = 2 * columns
    raw = reference.random_blocks(qtype, 32, k)
    blocks = raw.view(32, 2, size)
    kept = {p: blocks[..., p : p + 2].clone() for p in reference.HALVES[qtype]}
    blocks[:16] = 255
    blocks[4:8] = 127
    blocks[8:12] = 128
    for place, halves in kept.items():
        blocks[..., place : place + 2] = halves
        blocks[::2, :, place : place + 2] = torch.tensor([2.0**-24 * 5]).half().view(torch.uint8)
    x = torch.stack([torch.zeros(k), torch.full((k,), 3e4), torch.full((k,), -3e4)])
    weight = reference.dequantize(raw, qtype)
    error = (quantized(x, raw, qtype, 32, k) - x.double() @ weight.T).abs()
    assert (error <= 2e-5 * (x.double().abs() @ weight.abs().T) + 2e-2).all()


@every_type
@pytest.mark.parametrize("coarse", [0, 32])
def test_digits_at_the_ends_of_their_range(coarse, qtype):
    """Elements of full size and either sign, or some steps below, whatever the other column's."""
    columns, _ = ops.QUANT_BLOCKS[qtype]
    raw = reference.random_blocks(qtype, 32, columns)
    sign, below = torch.randint(-1, 2, (300, columns)), torch.randint(0, 40, (300, columns))
    x = sign * (1 - below / 1904)
    weight = reference.dequantize(raw, qtype)
    one = coarse > 0 and qtype != ops.GGML_Q6_K
    seen = x if ops.CPU_ISA == "scalar" else reference.quantize_activations(x, qtype, one)
    error = (quantized(x, raw, qtype, 32, columns, coarse) - seen.double() @ weight.T).abs()
    assert (error <= summation_slack(seen, weight, qtype)).all()


@every_type
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_stays_so(bad, qtype):
    """In its own row, in either digit form, whatever comes before and after it in a block."""
    k = reference.columns_for(qtype, 128)
    x, raw = torch.randn(40, k), reference.random_blocks(qtype, 32, k)
    x[torch.arange(0, 40, 2), torch.randint(0, k, (20,))] = bad
    finite = quantized(x, raw, qtype, 32, k, 16).isfinite().all(1)
    assert finite.tolist() == [False, True] * 20


@every_type
def test_dequantize(qtype):
    k = reference.columns_for(qtype, 96)
    raw = reference.random_blocks(qtype, 5, k)
    out = torch.empty(5, k)
    ops.dequantize(out, raw, qtype)
    assert_close(out.double(), reference.dequantize(raw, qtype), rtol=1e-6, atol=1e-7)


@every_type
def test_embedding_of_a_quantized_table(qtype):
    k = reference.columns_for(qtype, 64)
    raw, ids = reference.random_blocks(qtype, 40, k), torch.tensor([39, 0, 7, 7])
    out = torch.empty(4, k)
    ops.embedding_dequantize(out, ids, raw, qtype)
    expected = reference.dequantize(raw, qtype)[ids]
    assert_close(out.double(), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("qtype", "dtype"),
    [(ops.GGML_F32, DTYPES[0]), (ops.GGML_BF16, DTYPES[1]), (ops.GGML_F16, DTYPES[2])],
)
def test_embedding_of_a_dense_table(qtype, dtype):
    table, ids = torch.randn(9, 37).to(dtype), torch.tensor([8, 0, 3])
    out = torch.empty(3, 37)
    ops.embedding_dequantize(out, ids, table, qtype)
    assert torch.equal(out, table[ids].float())
    ops.embedding_dequantize(out[:0], ids[:0], table, qtype)


@pytest.mark.parametrize(("qtype", "scale"), [(ops.GGML_Q4_0, 9000.0), (ops.GGML_Q5_0, -4100.0)])
def test_repack_refuses_a_scale_that_does_not_fit(qtype, scale):
    raw = reference.random_blocks(qtype, 3, 64)
    raw[1, raw.shape[1] // 2 :][:2] = torch.tensor([scale]).half().view(torch.uint8)
    name = reference.NAMES[qtype]
    with pytest.raises(RuntimeError, match=rf"{name} scale {scale:.0f}.* in row 1, block 1"):
        ops.quant_repack(raw, qtype, 3, 64)
