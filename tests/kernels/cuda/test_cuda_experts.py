# SPDX-License-Identifier: Apache-2.0
"""Mixture of experts against float64, token by token."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from tests.kernels import reference
from tests.kernels.test_experts import expected_route
from vllm.kernels import ops

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
# The results of three products in a row are rounded to the type, and then the sum.
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def route(cuda, logits, top, bias=None, sigmoid=False, groups=(1, 1, 1), factor=1.0):
    ids = torch.full((len(logits), top), -1, dtype=torch.int32, device=cuda.device)
    weights = torch.full((len(logits), top), torch.nan, device=cuda.device)
    bias = None if bias is None else bias.to(cuda.device)
    cuda.route_experts(ids, weights, logits.to(cuda.device), bias, sigmoid, *groups, True, factor)
    return ids.cpu(), weights.cpu()


@pytest.mark.parametrize(("experts", "top"), [(8, 2), (128, 8), (3, 3), (1, 1), (1000, 6)])
def test_softmax_routing(cuda, experts, top):
    logits = reference.wide(experts, 20)
    ids, weights = route(cuda, logits, top)
    wanted = expected_route(logits, top)
    assert torch.equal(ids, wanted[0])
    assert_close(weights.double(), wanted[1], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("groups", [(1, 1, 1), (8, 3, 2), (4, 4, 1)])
def test_sigmoid_routing_with_bias_and_groups(cuda, groups):
    logits, bias = torch.randn(30, 64), torch.randn(64) * 0.3
    ids, weights = route(cuda, logits, 6, bias, True, groups, factor=2.5)
    wanted = expected_route(logits, 6, bias, True, groups)
    assert torch.equal(ids, wanted[0])
    assert_close(weights.double(), wanted[1] * 2.5, rtol=1e-6, atol=1e-7)


def test_equal_logits_take_the_lower_ids(cuda):
    ids, weights = route(cuda, torch.zeros(2, 60), 3)
    assert ids.tolist() == [[0, 1, 2]] * 2
    assert_close(weights, torch.full((2, 3), 1 / 3))


def test_nan_logits_stay_nan_and_in_bounds(cuda):
    logits = torch.randn(3, 8)
    logits[1] = torch.nan
    ids, weights = route(cuda, logits, 2)
    assert ((ids >= 0) & (ids < 8)).all()
    assert weights[1].isnan().all()
    assert not weights[[0, 2]].isnan().any()


class Experts:
    """E experts of the same sizes, dense or in a packed format; `wide` is the same in float64."""

    def __init__(self, experts: int, hidden: int, inner: int, kind: torch.dtype | int) -> None:
        self.inner, self.type = inner, 0
        sizes = ((2 * inner, hidden), (hidden, inner))
        if isinstance(kind, torch.dtype):
            self.stored = [torch.randn(experts, *s).mul(s[1] ** -0.5).to(kind) for s in sizes]
            self.wide = [s.double() for s in self.stored]
            return
        self.type = kind
        raw = [[reference.random_blocks(kind, *s) for _ in range(experts)] for s in sizes]
        self.stored = [
            torch.stack([ops.quant_repack(r, kind, *s) for r in each])
            for each, s in zip(raw, sizes, strict=True)
        ]
        self.wide = [torch.stack([reference.dequantize(r, kind) for r in each]) for each in raw]

    def run(self, cuda, x, ids, weights, addend=None, out=None):
        x = x.to(cuda.device)
        out = torch.full_like(x, torch.nan) if out is None else out
        gate_up, down = (s.to(cuda.device) for s in self.stored)
        addend = None if addend is None else addend.to(cuda.device)
        ids, weights = ids.to(cuda.device), weights.to(cuda.device)
        cuda.fused_experts(
            out, x, ids, weights, gate_up, self.type, down, self.type, self.inner, addend
        )
        return out.cpu()

    def expected(self, x, ids, weights, addend=None):
        total = torch.zeros(x.shape).double() if addend is None else addend.double()
        for token, row in enumerate(x.double()):
            for expert, weight in zip(ids[token].tolist(), weights[token].double(), strict=True):
                gate, up = (self.wide[0][expert] @ row).chunk(2)
                total[token] += weight * (self.wide[1][expert] @ (gate.sigmoid() * gate * up))
        return total


def inputs(tokens, hidden, experts, top, dtype=torch.float32):
    ids = torch.stack([torch.randperm(experts)[:top] for _ in range(tokens)]).int()
    return torch.randn(tokens, hidden).to(dtype), ids, torch.rand(tokens, top)


def close(found, wanted, dtype):
    assert found.dtype == dtype
    assert (found.double() - wanted).norm() <= TOLERANCE[dtype] * wanted.norm()


# Up to 8 rows per expert on average come in tiles of 8, up to 64 in tiles of 32, then 64 (16 bits).
@pytest.mark.parametrize("tokens", [1, 3, 40, 170])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dense_experts(cuda, dtype, tokens):
    experts = Experts(5, 48, 36, dtype)
    x, ids, weights = inputs(tokens, 48, 5, 2, dtype)
    addend = torch.randn(tokens, 56).to(dtype)[:, :48]
    found = experts.run(cuda, x, ids, weights, addend)
    close(found, experts.expected(x, ids, weights, addend), dtype)


@pytest.mark.parametrize("tokens", [2, 40])
@pytest.mark.parametrize("qtype", reference.QTYPES, ids=reference.NAMES.get)
def test_packed_experts(cuda, qtype, tokens):
    hidden, inner = (reference.columns_for(qtype, size) for size in (64, 96))
    experts = Experts(4, hidden, inner, qtype)
    x, ids, weights = inputs(tokens, hidden, 4, 2)
    close(experts.run(cuda, x, ids, weights), experts.expected(x, ids, weights), torch.float32)


def test_out_may_be_x(cuda):
    experts = Experts(4, 32, 16, torch.float32)
    x, ids, weights = inputs(20, 32, 4, 2)
    expected = experts.run(cuda, x, ids, weights)
    x = x.to(cuda.device)
    assert torch.equal(experts.run(cuda, x, ids, weights, out=x), expected)


def test_a_token_does_not_depend_on_the_others(cuda):
    experts = Experts(8, 64, 32, torch.float32)
    x, ids, weights = inputs(100, 64, 8, 3)
    together = experts.run(cuda, x, ids, weights)
    for part in (slice(0, 1), slice(7, 8), slice(5, 60)):
        alone = experts.run(cuda, x[part], ids[part].clone(), weights[part].clone())
        assert torch.equal(alone, together[part])


def test_experts_that_do_not_exist_are_left_out(cuda):
    experts = Experts(4, 32, 16, torch.float32)
    x, ids, weights = inputs(3, 32, 4, 2)
    ids[1] = torch.tensor([4, -1])
    ids[2, 0] = 99
    found = experts.run(cuda, x, ids, weights)
    assert found[1].eq(0).all()
    wanted = experts.expected(x[2:], ids[2:, 1:], weights[2:, 1:])
    close(found[2:], wanted, torch.float32)


def test_no_tokens(cuda):
    experts = Experts(2, 8, 4, torch.float32)
    x, ids, weights = torch.empty(0, 8), torch.empty(0, 1, dtype=torch.int32), torch.empty(0, 1)
    assert experts.run(cuda, x, ids, weights).shape == (0, 8)
