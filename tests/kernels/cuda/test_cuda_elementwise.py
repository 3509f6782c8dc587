# SPDX-License-Identifier: Apache-2.0
"""Norms, rotary embedding, gated activation and cache writes against float64."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from tests.kernels import reference

DTYPES = [torch.float32, torch.float16, torch.bfloat16]

# Results are computed in float32 and rounded once: half a unit in the last place of the type, which
# is eps / 2 relative; float32 itself may be off by a few units after sums and exp.
RELATIVE = {
    torch.float32: 16 * 2.0**-23,
    torch.float16: 0.51 * 2.0**-10,
    torch.bfloat16: 0.51 * 2.0**-7,
}

# 8-element pieces are taken where the width allows: 8 and 4096 do, 1, 33 and 100 don't. A block has
# at most 1024 threads: 4096 and 9000 need several rounds.
WIDTHS = [1, 8, 33, 100, 576, 4096, 9000]


def wide(width: int, rows: int, dtype: torch.dtype, device: str) -> torch.Tensor:
    """Random [rows, width] slice of a wider tensor whose rows start on multiples of 8 elements."""
    padded = (width + 7) // 8 * 8 + 8
    return torch.randn(rows, padded, dtype=torch.float32).to(device, dtype)[:, :width]


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """`expected` in float64, compared at the precision of `actual`."""
    relative = RELATIVE[actual.dtype]
    assert_close(actual.double().cpu(), expected, rtol=relative, atol=relative * 2**-4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_rms_norm(cuda, width, dtype):
    x = wide(width, 3, dtype, cuda.device)
    for weight_dtype in {dtype, torch.float32}:
        weight = torch.randn(width).to(cuda.device, weight_dtype)
        out = torch.full_like(x, torch.nan)
        cuda.rms_norm(out, x, weight, 1e-5)
        close(out, reference.rms_norm(x.cpu(), weight.cpu(), 1e-5))


def test_rms_norm_in_place(cuda):
    x = wide(64, 5, torch.float32, cuda.device)
    expected = reference.rms_norm(x.cpu(), torch.ones(64), 1e-6)
    cuda.rms_norm(x, x, torch.ones(64, device=cuda.device), 1e-6)
    close(x, expected)


def test_rms_norm_of_unaligned_rows(cuda):
    storage = torch.randn(4, 65).to(cuda.device)
    x = storage[:, 1:]  # rows start 4 bytes after a multiple of 16
    out = torch.empty(4, 64, device=cuda.device)
    cuda.rms_norm(out, x, torch.ones(64, device=cuda.device), 1e-6)
    close(out, reference.rms_norm(x.cpu(), torch.ones(64), 1e-6))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_fused_add_rms_norm(cuda, width, dtype):
    x, residual = (wide(width, 3, dtype, cuda.device) for _ in range(2))
    weight = torch.randn(width).to(cuda.device, dtype)
    total = (x.float() + residual.float()).to(dtype).cpu()
    cuda.fused_add_rms_norm(x, residual, weight, 1e-5)
    assert torch.equal(residual.cpu(), total)
    close(x, reference.rms_norm(total, weight.cpu(), 1e-5))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_silu_and_mul(cuda, width, dtype):
    x = wide(2 * width, 3, dtype, cuda.device) * 4
    out = torch.full((3, width), torch.nan, dtype=dtype, device=cuda.device)
    cuda.silu_and_mul(out, x)
    close(out, reference.silu_and_mul(x.cpu()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_gelu_tanh_and_mul(cuda, width, dtype):
    x = wide(2 * width, 3, dtype, cuda.device) * 4
    out = torch.full((3, width), torch.nan, dtype=dtype, device=cuda.device)
    cuda.gelu_tanh_and_mul(out, x)
    # 1 + tanh cancels where the gate is far below 0.
    found, expected = out.double().cpu(), reference.gelu_tanh_and_mul(x.cpu())
    slack = x.double().cpu().chunk(2, -1)[0].abs() * x.double().cpu().chunk(2, -1)[1].abs()
    assert (
        (found - expected).abs() <= RELATIVE[dtype] * expected.abs() + 4e-7 * slack + 1e-7
    ).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 33, 576])
def test_soft_cap(cuda, width, dtype):
    x = wide(width, 3, dtype, cuda.device) * 40
    expected = 30 * torch.tanh(x.double().cpu() / 30)
    cuda.soft_cap(x, 30.0)
    close(x, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 33, 576])
def test_scale(cuda, width, dtype):
    x = wide(width, 3, dtype, cuda.device)
    expected = x.double().cpu() * 3.25
    cuda.scale(x, 3.25)
    close(x, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_copy_heads(cuda, dtype):
    x = torch.randn(5, 3, 24).to(cuda.device, dtype)
    out = torch.zeros(5, 4, 40, dtype=dtype, device=cuda.device)
    cuda.copy_heads(out[:, 1:, 8:32], x)
    assert torch.equal(out[:, 1:, 8:32], x)
    assert out.count_nonzero() == x.count_nonzero()
    one = x[:, :1].expand(5, 4, 24)  # the same head four times
    cuda.copy_heads(out[:, :, :24], one)
    assert torch.equal(out[:, :, :24], one)


def test_silu_of_extreme_gates(cuda):
    x = torch.tensor([[-1e4, 1e4, -torch.inf, 2.0, 3.0, 1.0]], device=cuda.device)
    out = torch.empty(1, 3, device=cuda.device)
    cuda.silu_and_mul(out, x)
    assert out[0, :2].tolist() == [0.0, 3e4]
    assert out[0, 2].isnan()  # -inf * sigmoid(-inf) = -inf * 0, as in IEEE arithmetic


@pytest.mark.parametrize("is_neox", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("head_dim", "rot_dim"), [(2, 2), (48, 48), (64, 32), (128, 128)])
def test_rotary_embedding(cuda, head_dim, rot_dim, dtype, is_neox):
    cache = reference.cos_sin_cache(50, rot_dim)
    positions = torch.tensor([0, 49, 7, 7])
    q = wide(6 * head_dim, 4, dtype, cuda.device)
    k = wide(2 * head_dim, 4, dtype, cuda.device)
    expected = [
        reference.rotary(x.cpu(), positions, head_dim, cache, is_neox).to(dtype) for x in (q, k)
    ]
    cuda.rotary_embedding(positions.to(cuda.device), q, k, head_dim, cache.to(cuda.device), is_neox)
    for actual, wanted in zip((q, k), expected, strict=True):
        # a cos - b sin loses digits where it cancels: absolute error of the float32 products.
        assert_close(actual.cpu(), wanted, rtol=2 * RELATIVE[dtype], atol=1e-6)


def test_rotary_of_a_position_outside_of_the_cache_is_nan(cuda):
    cache = reference.cos_sin_cache(4, 8).to(cuda.device)
    q, k = torch.ones(3, 16, device=cuda.device), torch.ones(3, 8, device=cuda.device)
    positions = torch.tensor([3, 4, -1], device=cuda.device)
    cuda.rotary_embedding(positions, q, k, 8, cache, True)
    for x in (q, k):
        assert not x[0].isnan().any()
        assert x[1:].isnan().all()


@pytest.mark.parametrize("cache_dtype", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_kv_write(cuda, dtype, cache_dtype):
    blocks, heads, block_size, head_dim = 3, 2, 4, 40
    k, v = (wide(heads * head_dim, 5, dtype, cuda.device) for _ in range(2))
    caches = [
        torch.full(
            (blocks, heads, block_size, head_dim), 7.0, dtype=cache_dtype, device=cuda.device
        )
        for _ in range(2)
    ]
    slots = [11, -1, 0, 5, blocks * block_size]  # the second is padding, the last does not exist
    cuda.kv_write(k, v, *caches, torch.tensor(slots, device=cuda.device))
    for cache, source in zip(caches, (k, v), strict=True):
        expected = torch.full(cache.shape, 7.0, dtype=cache_dtype)
        for token in (0, 2, 3):
            block, offset = divmod(slots[token], block_size)
            expected[block, :, offset] = source[token].cpu().to(cache_dtype).view(heads, head_dim)
        assert torch.equal(cache.cpu(), expected)


@pytest.mark.parametrize(
    "op",
    [
        "rms_norm",
        "fused_add_rms_norm",
        "silu_and_mul",
        "gelu_tanh_and_mul",
        "soft_cap",
        "scale",
        "copy_heads",
        "kv_write",
    ],
)
def test_no_rows(cuda, op):
    x, weight = torch.empty(0, 16, device=cuda.device), torch.ones(16, device=cuda.device)
    cache = torch.ones(1, 2, 4, 8, device=cuda.device)
    arguments = {
        "rms_norm": (x, x, weight, 1e-5),
        "fused_add_rms_norm": (x, x.clone(), weight, 1e-5),
        "silu_and_mul": (torch.empty(0, 8, device=cuda.device), x),
        "gelu_tanh_and_mul": (torch.empty(0, 8, device=cuda.device), x),
        "soft_cap": (x, 1.0),
        "scale": (x, 1.0),
        "copy_heads": (x.view(0, 2, 8), x.clone().view(0, 2, 8)),
        "kv_write": (x, x, cache, cache.clone(), torch.empty(0, dtype=torch.int64).to(x.device)),
    }
    getattr(cuda, op)(*arguments[op])
    assert cache.eq(1).all()
