# SPDX-License-Identifier: Apache-2.0
"""Prompts on their way to a kernel that takes keys one after the other: which, and which keys.

The kernel itself needs a GPU (tests/device); here a plain product over each sequence stands for it.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.steps import BLOCK, Step, random_step
from vllm.kernels import flash
from vllm.layers import flash_attention
from vllm.layers.attention import PagedAttention
from vllm.layers.flash_attention import FlashAttention, make_attention
from vllm.layers.linear import Target

MIXES = {
    "fresh prompts": [(0, 5), (0, 9), (0, 1)],
    "chunks": [(7, 5), (0, 4), (13, 8)],
    "decodes first": [(9, 1), (3, 1), (0, 6)],
    "a decode between": [(9, 1), (4, 3), (8, 1), (5, 2)],
}


def attend_plainly(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    query_starts: Tensor,
    key_starts: Tensor,
    longest_query: int,
    longest_context: int,
    scale: float,
) -> Tensor:
    out = torch.empty_like(q)
    group = q.shape[1] // k.shape[1]
    q_ends, k_ends = query_starts.tolist(), key_starts.tolist()
    assert (q_ends[-1], k_ends[-1]) == (len(q), len(k))
    for i in range(len(q_ends) - 1):
        rows, keys = slice(*q_ends[i : i + 2]), slice(*k_ends[i : i + 2])
        own_k, own_v = (x[keys].repeat_interleave(group, 1) for x in (k, v))
        queries, context = q[rows].shape[0], own_k.shape[0]
        assert queries <= longest_query
        assert context <= longest_context
        unseen = torch.ones(queries, context).triu(context - queries + 1).bool()
        scores = torch.einsum("qhd,khd->hqk", q[rows], own_k) * scale
        weights = scores.masked_fill(unseen, -torch.inf).softmax(-1)
        out[rows] = torch.einsum("hqk,khd->qhd", weights, own_v)
    return out


def run(layer: PagedAttention, step: Step) -> Tensor:
    out = torch.empty(step.q.shape)
    layer(out, step.q, step.k, step.v, cache=step.cache, step=step.inputs)
    return out


@pytest.mark.parametrize("mix", MIXES)
def test_prompts_equal_the_paged_kernel(mix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flash, "attend_causally", attend_plainly)
    expected = run(PagedAttention(0.25), random_step(MIXES[mix]))
    step = random_step(MIXES[mix])
    torch.testing.assert_close(run(FlashAttention(0.25), step), expected)
    prompts = step.inputs.prompts(BLOCK)
    assert (prompts.places is None) == (mix in ("fresh prompts", "decodes first"))
    assert prompts.decodes == {"decodes first": 2, "a decode between": 1}.get(mix, 0)


def test_decodes_alone_stay_with_the_paged_kernel() -> None:
    step = random_step([(9, 1), (3, 1)])
    assert step.inputs.is_decode
    assert torch.equal(run(FlashAttention(0.25), step), run(PagedAttention(0.25), step))


def test_too_many_keys_stay_with_the_paged_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    step = random_step(MIXES["chunks"])
    layer = FlashAttention(0.25)
    size = (12 + 4 + 21) * 2 * 2 * 16 * 4  # keys and values, KV heads, head size, f32
    monkeypatch.setattr(flash_attention, "MOST_GATHERED", size - 1)
    assert torch.equal(run(layer, step), run(PagedAttention(0.25), step))
    monkeypatch.setattr(flash_attention, "MOST_GATHERED", size)
    with pytest.raises(NotImplementedError, match="_flash_attention_forward"):  # needs a GPU
        run(layer, step)


def test_the_cpu_has_the_paged_kernel() -> None:
    target = Target(torch.device("cpu"), torch.bfloat16)
    assert type(make_attention(target, 64, 0.25, 0, 0.0)) is PagedAttention
