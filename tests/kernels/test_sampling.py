# SPDX-License-Identifier: Apache-2.0
"""Ops on logits against float64: argmax, bias, penalties, log probabilities, sampling."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from tests.kernels import reference
from vllm.kernels import ops

VOCABS = [1, 2, 15, 16, 17, 1000, 49152]


def argmax(logits):
    out = torch.full((logits.shape[0],), -1)
    ops.argmax(out, logits)
    return out


@pytest.mark.parametrize("vocab", VOCABS)
def test_argmax(vocab):
    logits = reference.wide(vocab, 5)
    assert torch.equal(argmax(logits), logits.argmax(-1))


def test_argmax_takes_the_first_of_equals_and_never_nan():
    inf, nan = torch.inf, torch.nan
    rows = [
        [1.0, 3.0, 3.0] * 20,
        [nan, 2.0, 1.0] * 20,
        [-inf] * 60,
        [nan] * 60,
        [-inf, nan, inf] * 20,
    ]
    assert argmax(torch.tensor(rows)).tolist() == [1, 1, 0, 0, 2]
    assert argmax(torch.empty(0, 8)).tolist() == []


def test_logit_bias():
    logits = torch.zeros(3, 10)
    rows, ids = torch.tensor([0, 2, 2]), torch.tensor([9, 0, 1])
    ops.apply_logit_bias(logits, rows, ids, torch.tensor([1.5, -100.0, -torch.inf]))
    wanted = torch.zeros(3, 10)
    wanted[0, 9], wanted[2, 0], wanted[2, 1] = 1.5, -100, -torch.inf
    assert torch.equal(logits, wanted)


def test_penalties():
    logits = torch.randn(3, 50)
    entries = [  # row, id, count in the output, in the prompt
        (0, 4, 0, True), (0, 7, 2, False), (0, 8, 3, True), (2, 0, 1, True), (2, 49, 1, False),
    ]  # fmt: skip
    repetition, frequency = torch.tensor([1.3, 2.0, 0.8]), torch.tensor([0.5, 1.0, -0.25])
    presence = torch.tensor([0.25, 1.0, -1.5])
    wanted = logits.double()
    for row, token, count, _ in entries:
        value = wanted[row, token]
        value = value / repetition[row] if value > 0 else value * repetition[row]
        wanted[row, token] = value - frequency[row] * count - (presence[row] if count else 0)
    ops.apply_penalties(
        logits,
        torch.tensor([e[1] for e in entries]),
        torch.tensor([e[2] for e in entries], dtype=torch.int32),
        torch.tensor([e[3] for e in entries]),
        torch.tensor([0, 3, 3, 5]),
        repetition,
        frequency,
        presence,
    )
    assert_close(logits.double(), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("vocab", VOCABS)
def test_token_logprobs_and_ranks(vocab):
    logits = reference.wide(vocab, 4) * 5
    ids = torch.randint(0, vocab, (4, 3))
    logprobs, ranks = torch.empty(4, 3), torch.empty(4, 3, dtype=torch.int64)
    ops.token_logprobs_and_ranks(logprobs, ranks, logits, ids)
    expected = logits.double().log_softmax(-1).gather(1, ids)
    assert_close(logprobs.double(), expected, rtol=1e-5, atol=1e-6)
    given = logits.gather(1, ids)
    assert torch.equal(ranks, 1 + (logits[:, None] > given[..., None]).sum(-1))


def test_logprobs_of_absent_and_undefined_tokens():
    logits = torch.tensor([[1.0, torch.nan, -torch.inf, 1.0]])
    logprobs, ranks = torch.empty(1, 4), torch.empty(1, 4, dtype=torch.int64)
    ops.token_logprobs_and_ranks(logprobs, ranks, logits, torch.tensor([[-1, 1, 2, 3]]))
    assert logprobs[0, :2].isnan().all()
    assert logprobs[0, 2] == -torch.inf
    assert_close(logprobs[0, 3], torch.tensor(0.5).log())
    assert ranks.tolist() == [[0, 0, 3, 1]]


@pytest.mark.parametrize("vocab", VOCABS)
@pytest.mark.parametrize("k", [0, 1, 5, 20])
def test_topk_logprobs(vocab, k):
    k = min(k, vocab)
    logits = reference.wide(vocab, 3) * 3
    logprobs, ids = torch.empty(3, k), torch.empty(3, k, dtype=torch.int64)
    ops.topk_logprobs(logprobs, ids, logits)
    order = torch.argsort(logits, dim=-1, descending=True, stable=True)[:, :k]
    assert torch.equal(ids, order)
    expected = logits.double().log_softmax(-1).gather(1, order)
    assert_close(logprobs.double(), expected, rtol=1e-5, atol=1e-6)


def test_topk_orders_equals_by_id():
    logprobs, ids = torch.empty(1, 4), torch.empty(1, 4, dtype=torch.int64)
    ops.topk_logprobs(logprobs, ids, torch.tensor([[0.0, 2.0, 1.0, 2.0, 1.0, 1.0]]))
    assert ids.tolist() == [[1, 3, 2, 4]]


def sample(logits, temperature, top_k, top_p, min_p, uniform):
    rows = logits.shape[0]

    def column(value, dtype):
        return torch.as_tensor(value, dtype=dtype).expand(rows).contiguous()

    out = torch.full((rows,), -1)
    ops.sample_top_k_top_p(
        out,
        logits,
        column(temperature, torch.float32),
        column(top_k, torch.int32),
        column(top_p, torch.float32),
        column(min_p, torch.float32),
        column(uniform, torch.float64),
    )
    return out


FILTERS = [
    (1.0, 0, 1.0, 0.0), (0.7, -1, 0.9, 0.0), (1.0, 5, 1.0, 0.0), (1.3, 0, 1.0, 0.1),
    (0.8, 40, 0.95, 0.05), (2.0, 3, 0.5, 0.0), (1.0, 10**6, 0.9999, 0.0), (0.5, 1, 0.1, 0.9),
]  # fmt: skip


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("vocab", [1, 17, 1000, 49152])
def test_sampling_inverts_the_filtered_distribution(vocab, filters):
    row = torch.randn(vocab) * 4
    uniform = torch.linspace(0.001, 0.999, 25, dtype=torch.float64)
    drawn = sample(row.expand(25, vocab).contiguous(), *filters, uniform)
    p = reference.kept_tokens(row, *filters)
    share = (p / p.sum()).cumsum(-1)
    upper, lower = share[drawn], share[drawn] - (p / p.sum())[drawn]
    # f32 weights: a uniform number this near to a boundary may fall to either side of it.
    assert (p[drawn] > 0).all()
    assert ((uniform < upper + 2e-5) & (uniform >= lower - 2e-5)).all()


def test_top_p_is_a_share_of_the_top_k():
    """Also where exactly top_k tokens are likely enough to be looked at first."""
    logits = torch.full((1, 20_000), -8.0)
    logits[0, :4] = torch.tensor([3.0, 2.0, 1.0, 0.0])
    p = reference.kept_tokens(logits[0], 1.0, 4, 0.9, 0.0)
    assert (p > 0).sum() == 3
    assert sample(logits, 1.0, 4, 0.9, 0.0, 0.9999).tolist() == [2]


def test_zero_temperature_is_greedy():
    logits = torch.randn(6, 100)
    assert torch.equal(sample(logits, 0.0, 0, 0.5, 0.3, 0.99), logits.argmax(-1))
    assert torch.equal(sample(logits, 1e-6, 0, 1.0, 0.0, 0.99), logits.argmax(-1))


def test_rows_have_their_own_parameters():
    logits = torch.tensor([[0.0, 1.0, 2.0, 3.0]] * 4)
    out = torch.empty(4, dtype=torch.int64)
    ops.sample_top_k_top_p(
        out,
        logits,
        torch.tensor([0.0, 1.0, 1.0, 1.0]),
        torch.tensor([0, 2, 0, 0], dtype=torch.int32),
        torch.tensor([1.0, 1.0, 0.5, 1.0]),
        torch.tensor([0.0, 0.0, 0.0, 0.0]),
        torch.tensor([0.0, 0.0, 0.0, 0.0], dtype=torch.float64),
    )
    assert out.tolist() == [3, 2, 3, 0]


def test_forbidden_tokens_are_never_drawn():
    logits = torch.full((50, 64), -torch.inf)
    logits[:, [3, 60]] = 0.0
    drawn = sample(logits, 1.0, 0, 1.0, 0.0, torch.linspace(0, 0.9999, 50, dtype=torch.float64))
    assert set(drawn.tolist()) == {3, 60}
    assert sample(torch.full((1, 8), -torch.inf), 1.0, 0, 0.9, 0.0, 0.5).tolist() == [0]
    assert sample(torch.full((1, 8), torch.nan), 1.0, 0, 0.9, 0.0, 0.5).tolist() == [0]


def test_the_unfiltered_draw_covers_the_vocabulary():
    logits = torch.zeros(1000, 10)
    uniform = (torch.arange(1000) + 0.5).double() / 1000
    counts = sample(logits, 1.0, 0, 1.0, 0.0, uniform).bincount(minlength=10)
    assert counts.tolist() == [100] * 10


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_choose_greedy_is_argmax(rows):
    hidden, logits = reference.wide(37, rows), reference.wide(1000, rows)
    out, suspect = torch.full((rows,), -1), torch.tensor([7])
    ops.choose_greedy(out, suspect, hidden, logits)
    assert torch.equal(out, logits.argmax(-1))
    assert suspect.tolist() == [0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("column", [0, 15, 36])
def test_choose_greedy_suspects_hidden_states_that_are_not_finite(bad, column):
    hidden, logits, suspect = torch.randn(4, 37), torch.randn(4, 50), torch.zeros(1).long()
    hidden[2, column] = bad
    ops.choose_greedy(torch.empty(4).long(), suspect, hidden, logits)
    assert suspect.tolist() == [1]


@pytest.mark.parametrize("column", [0, 31, 49])
def test_choose_greedy_suspects_a_column_of_nan(column):
    hidden, logits, suspect = torch.randn(4, 37), torch.randn(4, 50), torch.zeros(1).long()
    logits[:, 3] = -math.inf
    ops.choose_greedy(torch.empty(4).long(), suspect, hidden, logits)
    assert suspect.tolist() == [0], "a token that is ruled out is no fault"
    logits[:, column] = math.nan
    ops.choose_greedy(torch.empty(4).long(), suspect, hidden, logits)
    assert suspect.tolist() == [1]
