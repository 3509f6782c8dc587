# SPDX-License-Identifier: Apache-2.0
"""Dense and quantized linear layers, repacking and widening against float64."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from tests.kernels import reference
from vllm.kernels import ops

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SHAPES = [(0, 5, 8), (1, 1, 1), (1, 37, 576), (2, 64, 31), (3, 17, 100), (9, 33, 96), (150, 70, 64)]


def dense(x, weight, bias=None):
    out = torch.full((x.shape[0], weight.shape[0]), torch.nan)
    ops.linear(out, x, weight, bias)
    return out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "n", "k"), SHAPES)
def test_linear(m, n, k, dtype):
    x, weight, bias = reference.wide(k, m), torch.randn(n, k).to(dtype), torch.randn(n)
    expected = x.double() @ weight.double().T
    # Order of an f32 sum: k roundings of partial sums, each about as large as the absolute sum.
    slack = (x.double().abs() @ weight.double().abs().T) * k**0.5 * reference.F32_EPS + 1e-6
    assert ((dense(x, weight) - expected).abs() <= slack).all()
    assert ((dense(x, weight, bias) - expected - bias).abs() <= slack + 1e-6).all()


def quantized(x, raw, qtype, n, k):
    out = torch.full((x.shape[0], n), torch.nan)
    ops.quant_linear(out, x, ops.quant_repack(raw, qtype, n, k), qtype, n, k)
    return out


QUANT_SHAPES = [
    (0, 16, 32), (1, 16, 32), (1, 1, 32), (1, 50, 576), (2, 576, 1536), (3, 33, 64), (7, 16, 96),
    (8, 31, 128), (9, 40, 64), (32, 960, 576), (131, 48, 160),
]  # fmt: skip


@pytest.mark.parametrize("qtype", reference.QTYPES)
@pytest.mark.parametrize(("m", "n", "k"), QUANT_SHAPES)
def test_quant_linear(m, n, k, qtype):
    x, raw = reference.wide(k, m), reference.random_blocks(qtype, n, k)
    weight = reference.dequantize(raw, qtype)
    seen = x if ops.CPU_ISA == "scalar" else reference.quantize_activations(x)
    # The 8-bit kernels add 128 to each weight and take it out again, in f32.
    largest = 256 * weight.abs().amax() if qtype == ops.GGML_Q8_0 else 32 * weight.abs().amax()
    slack = seen.abs().double().sum(-1, keepdim=True) * largest * reference.F32_EPS + 1e-6
    error = (quantized(x, raw, qtype, n, k) - seen.double() @ weight.T).abs()
    assert (error <= slack).all(), (error / slack).max()


@pytest.mark.parametrize("qtype", reference.QTYPES)
def test_quantized_activations_stay_within_their_bound(qtype):
    """One and a half low steps, 1/127/256 of the block's largest element, weighted with |w|; half a
    step is rounding, one the end of the low digit's range.
    """
    x, raw = torch.randn(5, 320), reference.random_blocks(qtype, 64, 320)
    weight = reference.dequantize(raw, qtype)
    step = x.reshape(5, -1, 32).abs().amax(-1).repeat_interleave(32, -1).double() / (127 * 256)
    bound = 1.501 * step @ weight.abs().T + 1e-4
    assert ((quantized(x, raw, qtype, 64, 320) - x.double() @ weight.T).abs() <= bound).all()


@pytest.mark.parametrize("qtype", reference.QTYPES)
def test_extreme_blocks(qtype):
    """All-zero activations, the largest quants with the largest activations, tiny scales."""
    raw = reference.random_blocks(qtype, 32, 64)
    blocks = raw.view(32, 2, -1)
    blocks[:16, :, -16:] = 255
    blocks[:8, :, -32:] = 127 if qtype == ops.GGML_Q8_0 else 255
    blocks[8:12, :, -32:] = 128 if qtype == ops.GGML_Q8_0 else 255
    blocks[:, :, :2] = (
        torch.tensor([2.0**-24 * 5, 0.01] * 32).half().view(torch.uint8).view(32, 2, 2)
    )
    if qtype == ops.GGML_Q4_1:
        blocks[:, :, 2:4] = torch.tensor([-0.25, 0.0] * 32).half().view(torch.uint8).view(32, 2, 2)
    x = torch.stack([torch.zeros(64), torch.full((64,), 3e4), torch.full((64,), -3e4)])
    expected = x.double() @ reference.dequantize(raw, qtype).T
    assert_close(quantized(x, raw, qtype, 32, 64).double(), expected, rtol=2e-5, atol=2e-2)


@pytest.mark.parametrize("qtype", reference.QTYPES)
def test_dequantize(qtype):
    raw = reference.random_blocks(qtype, 5, 96)
    out = torch.empty(5, 96)
    ops.dequantize(out, raw, qtype)
    assert_close(out.double(), reference.dequantize(raw, qtype), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("qtype", reference.QTYPES)
def test_embedding_of_a_quantized_table(qtype):
    raw, ids = reference.random_blocks(qtype, 40, 64), torch.tensor([39, 0, 7, 7])
    out = torch.empty(4, 64)
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


def test_repack_refuses_a_scale_that_does_not_fit():
    raw = reference.random_blocks(ops.GGML_Q4_0, 1, 32)
    raw[0, :2] = torch.tensor([9000.0]).half().view(torch.uint8)
    with pytest.raises(RuntimeError, match=r"Q4_0 scale 9000.* in row 0, block 0"):
        ops.quant_repack(raw, ops.GGML_Q4_0, 1, 32)
