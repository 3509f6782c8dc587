# SPDX-License-Identifier: Apache-2.0
"""Linear layers with dense and FP8 weights against float64."""

from __future__ import annotations

import pytest
import torch

from tests.kernels import reference

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
ROUNDING = {torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}

# Columns come in runs of 32, two a unit, 8 slices of units: 31 and 100 end within a run, 31 and 33
# also have rows that cannot be read in pieces.
SHAPES = [
    (1, 1, 1),
    (1, 37, 576),
    (2, 64, 31),
    (3, 17, 100),
    (8, 16, 33),
    (9, 33, 96),
    (70, 40, 64),
]


def multiply(cuda, x, weight, bias=None):
    n = weight.shape[0]
    out = torch.full((x.shape[0], n + 3), torch.nan, dtype=x.dtype, device=cuda.device)[:, :n]
    bias = None if bias is None else bias.to(cuda.device)
    cuda.linear(out, x.to(cuda.device), weight.to(cuda.device), bias)
    return out.double().cpu()


def slack(x, weight, expected):
    """Float32 sums, which tensor cores cut where float32 arithmetic rounds, rounded once."""
    sums = x.double().abs() @ weight.double().abs().T
    steps = 4 * x.shape[1] ** 0.5 * reference.F32_EPS
    return steps * sums + expected.abs() * ROUNDING[x.dtype] + 1e-6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "n", "k"), SHAPES)
def test_linear(cuda, m, n, k, dtype):
    x, weight, bias = torch.randn(m, k + 8).to(dtype)[:, :k], torch.randn(n, k).to(dtype), None
    for bias in (None, torch.randn(n)):
        expected = x.double() @ weight.double().T + (0 if bias is None else bias)
        error = (multiply(cuda, x, weight, bias) - expected).abs()
        assert (error <= slack(x, weight, expected)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_does_not_depend_on_the_others(cuda, dtype):
    x, weight = torch.randn(67, 288).to(dtype), torch.randn(150, 288).to(dtype)
    together = multiply(cuda, x, weight)
    for part in (slice(0, 1), slice(66, 67), slice(3, 11), slice(5, 38)):
        assert torch.equal(multiply(cuda, x[part], weight), together[part])


def test_no_rows(cuda):
    assert multiply(cuda, torch.empty(0, 32), torch.randn(5, 32)).shape == (0, 5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "n", "k"), SHAPES)
def test_fp8_linear(cuda, m, n, k, dtype):
    x, weight = torch.randn(m, k).to(dtype), torch.randn(n, k).to(torch.float8_e4m3fn)
    for scales, bias in ((torch.rand(n), None), (torch.rand(1), torch.randn(n))):
        wide = weight.double() * scales.double()[:, None]
        expected = x.double() @ wide.T + (0 if bias is None else bias)
        out = torch.full((m, n), torch.nan, dtype=dtype, device=cuda.device)
        arguments = [None if t is None else t.to(cuda.device) for t in (x, weight, scales, bias)]
        cuda.fp8_linear(out, *arguments)
        assert ((out.double().cpu() - expected).abs() <= slack(x, wide, expected)).all()


def test_every_fp8_number(cuda):
    numbers = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn)
    numbers = numbers[~numbers.float().isnan()]
    x = torch.ones(1, 1, device=cuda.device)
    out = torch.empty(1, len(numbers), device=cuda.device)
    scale = torch.ones(1, device=cuda.device)
    cuda.fp8_linear(out, x, numbers[:, None].to(cuda.device), scale, None)
    assert torch.equal(out[0].cpu(), numbers.float())
