# SPDX-License-Identifier: Apache-2.0
"""Mixture of experts, routing and feed-forward layers, against float64, token by token."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from tests.kernels import reference
from vllm.kernels import ops
from vllm.kernels.recording import Recording


def route(logits, top, bias=None, sigmoid=False, groups=(1, 1, 1), renormalize=True, factor=1.0):
    ids = torch.full((len(logits), top), -1, dtype=torch.int32)
    weights = torch.full((len(logits), top), torch.nan)
    ops.route_experts(ids, weights, logits, bias, sigmoid, *groups, renormalize, factor)
    return ids, weights


def expected_route(logits, top, bias=None, sigmoid=False, groups=(1, 1, 1), renormalize=True):
    """One token at a time, on Python numbers."""
    count, kept, best = groups
    ids, weights = [], []
    for row in logits.double():
        scores = row.sigmoid() if sigmoid else row.softmax(0)
        choice = scores if bias is None else scores + bias.double()
        members = choice.view(count, -1)
        ranks = members.topk(best, dim=1).values.sum(1).topk(kept).indices.tolist()
        allowed = [e for e in range(len(row)) if e // members.shape[1] in ranks]
        own = sorted(allowed, key=lambda e, choice=choice: -float(choice[e]))[:top]
        picked = scores[own]
        ids.append(own)
        weights.append(picked / picked.sum() if renormalize else picked)
    return torch.tensor(ids, dtype=torch.int32), torch.stack(weights)


@pytest.mark.parametrize("renormalize", [True, False])
@pytest.mark.parametrize(("experts", "top"), [(8, 2), (128, 8), (3, 3), (1, 1)])
def test_softmax_routing(experts, top, renormalize):
    logits = reference.wide(experts, 40)
    ids, weights = route(logits, top, renormalize=renormalize)
    wanted = expected_route(logits, top, renormalize=renormalize)
    assert torch.equal(ids, wanted[0])
    assert_close(weights.double(), wanted[1], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("groups", [(1, 1, 1), (8, 3, 2), (4, 4, 1)])
def test_sigmoid_routing_with_bias_and_groups(groups):
    logits, bias = torch.randn(60, 64), torch.randn(64) * 0.3
    ids, weights = route(logits, 6, bias, True, groups, factor=2.5)
    wanted = expected_route(logits, 6, bias, True, groups)
    assert torch.equal(ids, wanted[0])
    assert_close(weights.double(), wanted[1] * 2.5, rtol=1e-6, atol=1e-7)


def test_equal_logits_take_the_lower_ids():
    ids, weights = route(torch.zeros(2, 6), 3)
    assert ids.tolist() == [[0, 1, 2]] * 2
    assert_close(weights, torch.full((2, 3), 1 / 3))


def test_nan_logits_stay_nan_and_in_bounds():
    logits = torch.randn(3, 8)
    logits[1] = torch.nan
    ids, weights = route(logits, 2)
    assert ((ids >= 0) & (ids < 8)).all()
    assert weights[1].isnan().all()
    assert not weights[[0, 2]].isnan().any()


class Experts:
    """E experts of the same sizes; `matrices[e]` are gate, up and down in float64."""

    def __init__(self, experts, hidden, inner, kind):
        self.inner = inner
        sizes = ((2 * inner, hidden), (hidden, inner))
        if isinstance(kind, torch.dtype):
            dense = [torch.randn(experts, *s).mul(s[1] ** -0.5).to(kind) for s in sizes]
            self.stored = [torch.stack([reference.tiled(m) for m in each]) for each in dense]
            self.types = (0, 0)
            wide = [each.double() for each in dense]
        else:
            raw = [[reference.random_blocks(kind, *s) for _ in range(experts)] for s in sizes]
            packed = [
                [ops.quant_repack(r, kind, *s) for r in each]
                for each, s in zip(raw, sizes, strict=True)
            ]
            self.stored = [torch.stack(each) for each in packed]
            self.types = (kind, kind)
            wide = [
                torch.stack([self.widen(r, kind, s) for r in each])
                for each, s in zip(raw, sizes, strict=True)
            ]
        self.gate_up, self.down = wide

    @staticmethod
    def widen(raw, kind, size):
        out = torch.empty(size)
        ops.dequantize(out, raw, kind)
        return out.double()

    def run(self, x, ids, weights, addend=None, out=None):
        out = torch.full(x.shape, torch.nan) if out is None else out
        (gate_up, down), types = self.stored, self.types
        ops.fused_experts(
            out, x, ids, weights, gate_up, types[0], down, types[1], self.inner, addend
        )
        return out

    def expected(self, x, ids, weights, addend=None):
        rows = []
        for t in range(len(x)):
            total = torch.zeros(x.shape[1], dtype=torch.float64)
            for e, weight in zip(ids[t].tolist(), weights[t].double(), strict=True):
                gate, up = (self.gate_up[e] @ x[t].double()).chunk(2)
                total += weight * (self.down[e] @ (torch.nn.functional.silu(gate) * up))
            rows.append(total if addend is None else total + addend[t].double())
        return torch.stack(rows)


def inputs(tokens, hidden, experts, top):
    logits = torch.randn(tokens, experts)
    ids, weights = route(logits, top)
    return reference.wide(hidden, tokens), ids, weights


@pytest.mark.parametrize("tokens", [1, 3, 40, 600])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dense_experts(dtype, tokens):
    experts = Experts(5, 48, 36, dtype)
    x, ids, weights = inputs(tokens, 48, 5, 2)
    addend = reference.wide(48, tokens)
    found = experts.run(x, ids, weights, addend).double()
    expected = experts.expected(x, ids, weights, addend)
    if torch.equal(reference.seen_by(x, dtype), x):
        assert_close(found, expected, rtol=2e-5, atol=2e-5)
    else:  # inputs have 8 bits, twice: errors of up to 2^-9, of some 2^-10.8 on average
        assert (found - expected).norm() < 2**-8.5 * expected.norm()


@pytest.mark.parametrize("qtype", reference.QTYPES)
def test_packed_experts(qtype):
    hidden, inner = (reference.columns_for(qtype, size) for size in (64, 96))
    experts = Experts(6, hidden, inner, qtype)
    x, ids, weights = inputs(30, hidden, 6, 2)
    found, wanted = experts.run(x, ids, weights).double(), experts.expected(x, ids, weights)
    # Inputs are rounded to digits (see `quant_linear`), twice.
    assert (found - wanted).norm() < 2e-3 * wanted.norm()


def test_out_may_be_x():
    experts = Experts(4, 32, 16, torch.float32)
    x, ids, weights = inputs(20, 32, 4, 2)
    expected = experts.run(x, ids, weights)
    assert torch.equal(experts.run(x, ids, weights, out=x), expected)


def test_a_token_does_not_depend_on_the_others():
    experts = Experts(8, 64, 32, torch.float32)
    x, ids, weights = inputs(300, 64, 8, 3)
    together = experts.run(x, ids, weights)
    for part in (slice(0, 1), slice(7, 8), slice(5, 100)):
        alone = experts.run(x[part], ids[part].clone(), weights[part].clone())
        assert torch.equal(alone, together[part])


def test_no_tokens():
    experts = Experts(2, 8, 4, torch.float32)
    x, ids, weights = torch.empty(0, 8), torch.empty(0, 1, dtype=torch.int32), torch.empty(0, 1)
    assert experts.run(x, ids, weights).shape == (0, 8)


def test_a_replay_routes_anew():
    experts = Experts(8, 16, 12, torch.float32)
    x, logits = torch.randn(4, 16), torch.randn(4, 8)
    ids, weights, out = torch.zeros(4, 2, dtype=torch.int32), torch.zeros(4, 2), torch.zeros(4, 16)

    def step():
        ops.route_experts(ids, weights, logits, None, False, 1, 1, 1, True, 1.0)
        experts.run(x, ids, weights, out=out)

    recording = Recording(step)
    first = ids.clone()
    x.copy_(torch.randn(4, 16))
    logits.copy_(torch.randn(4, 8))
    recording.replay()
    assert not torch.equal(ids, first)
    assert_close(out.double(), experts.expected(x, ids, weights), rtol=2e-5, atol=2e-5)
