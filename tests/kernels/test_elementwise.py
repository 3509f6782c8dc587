# SPDX-License-Identifier: Apache-2.0
"""Norm, rotary embedding, activation and KV write against float64."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from tests.kernels import reference
from vllm.kernels import ops

SHAPES = [(0, 64), (1, 1), (1, 576), (3, 7), (5, 33), (2, 130), (70, 576)]
# A few roundings of f32 on values near 1, and the order of sums of up to 576 terms.
CLOSE = {"rtol": 2e-6, "atol": 2e-6}


@pytest.mark.parametrize("shape", SHAPES)
def test_rms_norm(shape):
    x, weight = reference.wide(shape[1], shape[0]), torch.randn(shape[1])
    out = torch.full_like(x, torch.nan)
    ops.rms_norm(out, x, weight, 1e-5)
    assert_close(out.double(), reference.rms_norm(x, weight, 1e-5), **CLOSE)


def test_rms_norm_in_place():
    x, weight = torch.randn(4, 100), torch.randn(100)
    expected = reference.rms_norm(x, weight, 1e-6)
    ops.rms_norm(x, x, weight, 1e-6)
    assert_close(x.double(), expected, **CLOSE)


@pytest.mark.parametrize("shape", SHAPES)
def test_fused_add_rms_norm(shape):
    x, residual, weight = torch.randn(shape), torch.randn(shape), torch.randn(shape[1])
    total = x + residual
    ops.fused_add_rms_norm(x, residual, weight, 1e-5)
    assert torch.equal(residual, total)
    assert_close(x.double(), reference.rms_norm(total, weight, 1e-5), **CLOSE)


@pytest.mark.parametrize("is_neox", [True, False])
@pytest.mark.parametrize(
    ("head_dim", "rot_dim"), [(64, 64), (48, 48), (64, 32), (10, 6), (128, 128)]
)
def test_rotary_embedding(head_dim, rot_dim, is_neox):
    cache = reference.cos_sin_cache(300, rot_dim)
    positions = torch.tensor([0, 299, 17, 17, 123])
    q, k = reference.wide(3 * head_dim, 5), reference.wide(head_dim, 5)
    wanted = [reference.rotary(x, positions, head_dim, cache, is_neox) for x in (q, k)]
    ops.rotary_embedding(positions, q, k, head_dim, cache, is_neox)
    assert_close(q.double(), wanted[0], **CLOSE)
    assert_close(k.double(), wanted[1], **CLOSE)


def test_rotary_embedding_of_nothing():
    q = torch.empty(0, 64)
    positions = torch.empty(0, dtype=torch.int64)
    ops.rotary_embedding(positions, q, q, 64, reference.cos_sin_cache(4, 64), True)


@pytest.mark.parametrize("shape", [(0, 8), (1, 1), (1, 1536), (3, 37), (40, 1536)])
def test_silu_and_mul(shape):
    x = reference.wide(2 * shape[1], shape[0]) * 4
    out = torch.full(shape, torch.nan)
    ops.silu_and_mul(out, x)
    assert_close(out.double(), reference.silu_and_mul(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(0, 8), (1, 1), (3, 37), (40, 1536)])
def test_gelu_tanh_and_mul(shape):
    x = reference.wide(2 * shape[1], shape[0]) * 4
    out = torch.full(shape, torch.nan)
    ops.gelu_tanh_and_mul(out, x)
    assert_close(out.double(), reference.gelu_tanh_and_mul(x), rtol=3e-6, atol=1e-6)


def test_gelu_of_extreme_values():
    gate = torch.tensor([[-1e30, -100.0, -10.0, 0.0, 10.0, 100.0, 1e12]])
    x = torch.cat([gate, torch.ones_like(gate)], -1)
    out = torch.empty_like(gate)
    ops.gelu_tanh_and_mul(out, x)
    assert_close(out.double(), reference.gelu_tanh_and_mul(x), rtol=1e-6, atol=1e-20)


@pytest.mark.parametrize("shape", [(0, 8), (1, 1), (3, 37), (5, 2000)])
def test_soft_cap(shape):
    x = reference.wide(shape[1], shape[0]) * 40
    x[:, ::7] *= 1e6
    expected = 30 * torch.tanh(x.double() / 30)
    ops.soft_cap(x, 30.0)
    assert_close(x.double(), expected, rtol=1e-6, atol=8e-6)


def test_scale():
    x = reference.wide(37, 3)
    expected = x * 0.3
    ops.scale(x, 0.3)
    assert torch.equal(x, expected)


def test_copy_heads_between_layouts():
    x, wide = torch.randn(5, 1, 8), torch.zeros(5, 3, 20)
    ops.copy_heads(wide[:, :, 4:12], x.expand(5, 3, 8))
    expected = torch.zeros(5, 3, 20)
    expected[:, :, 4:12] = x
    assert torch.equal(wide, expected)
    back = torch.empty(5, 3, 8)
    ops.copy_heads(back, wide[:, :, 4:12])
    assert torch.equal(back, x.expand(5, 3, 8))


def test_silu_of_extreme_values():
    gate = torch.tensor([[-1e30, -100.0, -88.0, 0.0, 88.0, 100.0, 1e30]])
    x = torch.cat([gate, torch.ones_like(gate)], -1)
    out = torch.empty_like(gate)
    ops.silu_and_mul(out, x)
    assert_close(out.double(), reference.silu_and_mul(x).nan_to_num(), rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("heads", "block_size", "head_dim"), [(3, 16, 64), (1, 5, 7), (2, 8, 48)])
def test_kv_write(heads, block_size, head_dim, dtype):
    caches = [torch.randn(4, heads, block_size, head_dim).to(dtype) for _ in range(2)]
    slots = torch.tensor([0, block_size - 1, -1, 4 * block_size - 1, 2 * block_size])
    inputs = [reference.wide(heads * head_dim, len(slots)) for _ in range(2)]
    wanted = [cache.clone() for cache in caches]
    for cache, values in zip(wanted, inputs, strict=True):
        for slot, value in zip(slots.tolist(), values, strict=True):
            if slot >= 0:
                block, offset = divmod(slot, block_size)
                cache[block, :, offset] = value.reshape(heads, head_dim).to(dtype)
    ops.kv_write(*inputs, *caches, slots)
    assert torch.equal(caches[0], wanted[0])
    assert torch.equal(caches[1], wanted[1])


def test_bf16_rounding_of_special_values():
    special = torch.tensor(
        [
            [
                0.0,
                -0.0,
                1e-40,
                -1e-45,
                torch.inf,
                -torch.inf,
                3.4e38,
                1.00390625,
                1.01171875,
                1.0039063,
                -1e-38,
                65504.0,
                2.0**-126,
                1.5,
                -1.5,
                7e-39,
            ]
        ]
    )
    cache, other = (torch.zeros(1, 1, 1, 16, dtype=torch.bfloat16) for _ in range(2))
    ops.kv_write(special, special, cache, other, torch.tensor([0]))
    assert torch.equal(cache.reshape(-1), special.bfloat16().reshape(-1))
    ops.kv_write(torch.full((1, 16), torch.nan), special, cache, other, torch.tensor([0]))
    assert cache.isnan().all()
