# SPDX-License-Identifier: Apache-2.0
"""Ops on logits against float64: argmax, bias, penalties, log probabilities, sampling."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from tests.kernels import reference

INF, NAN = torch.inf, torch.nan

# A block has one thread per token up to 1024: rows of less than a warp, of several, of two rounds.
VOCABS = [1, 2, 31, 33, 1000, 1500]
ON_DEVICE_VOCABS = [49152, 151936, 1 << 19]


def argmax(cuda, logits: torch.Tensor) -> list[int]:
    out = torch.full((logits.shape[0],), -1, device=cuda.device)
    cuda.argmax(out, logits.to(cuda.device))
    return out.tolist()


@pytest.mark.parametrize("vocab", VOCABS)
def test_argmax(cuda, vocab):
    logits = reference.wide(vocab, 4)
    assert argmax(cuda, logits) == logits.argmax(-1).tolist()


def test_argmax_takes_the_first_of_equals_and_never_nan(cuda):
    rows = [
        [1.0, 3.0, 3.0] * 20,
        [NAN, 2.0, 1.0] * 20,
        [-INF] * 60,
        [NAN] * 60,
        [-INF, NAN, INF] * 20,
        [-1.0, -0.0, 0.0] * 20,
        [NAN, -INF, -INF] * 20,
    ]
    assert argmax(cuda, torch.tensor(rows)) == [1, 1, 0, 0, 2, 1, 1]


def test_logit_bias(cuda):
    logits = torch.zeros(3, 10, device=cuda.device)
    rows, ids = [0, 2, 2, 1, 1, 3, 0], [9, 0, 1, 4, 4, 0, 10]  # the last two do not exist
    bias = [1.5, -100.0, -INF, 0.5, 0.25, 7.0, 7.0]
    cuda.apply_logit_bias(
        logits,
        torch.tensor(rows, device=cuda.device),
        torch.tensor(ids, device=cuda.device),
        torch.tensor(bias, device=cuda.device),
    )
    wanted = torch.zeros(3, 10)
    wanted[0, 9], wanted[2, 0], wanted[2, 1], wanted[1, 4] = 1.5, -100, -INF, 0.75
    assert torch.equal(logits.cpu(), wanted)


def test_penalties(cuda):
    vocab, per_row = 700, 300  # more entries than the block has threads
    logits = torch.randn(3, vocab)
    ids = torch.stack([torch.randperm(vocab)[:per_row] for _ in range(2)])
    counts = torch.randint(0, 3, (2, per_row), dtype=torch.int32)
    in_prompt = torch.rand(2, per_row) < 0.5
    repetition, frequency = torch.tensor([1.3, 2.0, 0.8]), torch.tensor([0.5, 1.0, -0.25])
    presence = torch.tensor([0.25, 1.0, -1.5])
    wanted = logits.double()
    for entry, row in enumerate([0, 2]):  # row 1 has no entries
        value = wanted[row, ids[entry]]
        seen = in_prompt[entry] | (counts[entry] > 0)
        scaled = torch.where(value > 0, value / repetition[row], value * repetition[row])
        value = torch.where(seen, scaled, value) - frequency[row] * counts[entry]
        wanted[row, ids[entry]] = value - presence[row] * (counts[entry] > 0)
    actual = logits.to(cuda.device)
    arguments = [ids.flatten(), counts.flatten(), in_prompt.flatten()]
    arguments += [torch.tensor([0, per_row, per_row, 2 * per_row]), repetition, frequency, presence]
    cuda.apply_penalties(actual, *[a.to(cuda.device) for a in arguments])
    assert_close(actual.cpu().double(), wanted, rtol=1e-6, atol=1e-6)


def token_logprobs(cuda, logits, ids):
    logprobs = torch.empty(ids.shape, device=cuda.device)
    ranks = torch.empty(ids.shape, dtype=torch.int64, device=cuda.device)
    cuda.token_logprobs_and_ranks(logprobs, ranks, logits.to(cuda.device), ids.to(cuda.device))
    return logprobs.cpu(), ranks.cpu()


@pytest.mark.parametrize("vocab", VOCABS)
def test_token_logprobs_and_ranks(cuda, vocab):
    logits = reference.wide(vocab, 3) * 5
    ids = torch.randint(0, vocab, (3, 2))
    logprobs, ranks = token_logprobs(cuda, logits, ids)
    expected = logits.double().log_softmax(-1).gather(1, ids)
    assert_close(logprobs.double(), expected, rtol=1e-5, atol=1e-6)
    given = logits.gather(1, ids)
    assert torch.equal(ranks, 1 + (logits[:, None] > given[..., None]).sum(-1))


def test_logprobs_of_absent_and_impossible_tokens(cuda):
    logits = torch.tensor([[1.0, -INF, NAN, 1.0]]).repeat(2, 1)
    ids = torch.tensor([[-1, 1, 2], [4, 0, 3]])
    logprobs, ranks = token_logprobs(cuda, logits, ids)
    half = -0.6931472
    assert_close(logprobs, torch.tensor([[NAN, -INF, NAN], [NAN, half, half]]), equal_nan=True)
    assert ranks.tolist() == [[0, 3, 0], [0, 1, 1]]


def topk(cuda, logits, k):
    logprobs = torch.empty(len(logits), k, device=cuda.device)
    ids = torch.empty(len(logits), k, dtype=torch.int64, device=cuda.device)
    cuda.topk_logprobs(logprobs, ids, logits.to(cuda.device))
    return logprobs.cpu(), ids.cpu()


@pytest.mark.parametrize("vocab", VOCABS)
@pytest.mark.parametrize("k", [1, 7, 33])
def test_topk_logprobs(cuda, vocab, k):
    k = min(k, vocab)
    logits = (reference.wide(vocab, 2) * 4).round()  # many equal ones
    logprobs, ids = topk(cuda, logits, k)
    order = torch.sort(logits, descending=True, stable=True).indices[:, :k]
    assert torch.equal(ids, order)
    expected = logits.double().log_softmax(-1).gather(1, order)
    assert_close(logprobs.double(), expected, rtol=1e-5, atol=1e-6)


def test_topk_puts_impossible_tokens_last(cuda):
    logprobs, ids = topk(cuda, torch.tensor([[NAN, 0.0, -INF, 0.0]]), 4)
    assert ids.tolist() == [[1, 3, 0, 2]]
    assert_close(logprobs, torch.tensor([[-0.6931472, -0.6931472, -INF, -INF]]))


def sample(cuda, logits, uniform, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0):
    rows = len(logits)
    out = torch.full((rows,), -1, device=cuda.device)
    cuda.sample_top_k_top_p(
        out,
        logits.to(cuda.device),
        torch.full((rows,), temperature, device=cuda.device),
        torch.full((rows,), top_k, dtype=torch.int32, device=cuda.device),
        torch.full((rows,), top_p, device=cuda.device),
        torch.full((rows,), min_p, device=cuda.device),
        torch.as_tensor(uniform, dtype=torch.float64).to(cuda.device),
    )
    return out.tolist()


def middles(kept: torch.Tensor) -> tuple[list[int], torch.Tensor]:
    """Tokens of a distribution and the numbers in the middle of their shares of [0, 1)."""
    share = kept / kept.sum()
    ids = (share > 1e-5).nonzero().flatten()
    return ids.tolist(), (share.cumsum(-1) - share / 2)[ids]


FILTERS = [
    {},
    {"temperature": 0.3},
    {"temperature": 1.7, "top_k": 5},
    {"top_k": 10**9},
    {"top_p": 0.6},
    {"top_p": 1e-6},
    {"min_p": 0.2},
    {"min_p": 1.0},
    {"temperature": 0.8, "top_k": 20, "top_p": 0.8, "min_p": 0.01},
]


def check_every_token(cuda, logits: torch.Tensor, filters: dict, at_most: int) -> None:
    """Draws each token that the filters keep by the number in the middle of its share."""
    settings = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0} | filters
    ids, uniform = middles(reference.kept_tokens(logits, **settings))
    picks = torch.linspace(0, len(ids) - 1, min(len(ids), at_most)).long()
    drawn = sample(cuda, logits.expand(len(picks), -1), uniform[picks], **settings)
    assert drawn == [ids[i] for i in picks]


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("vocab", [1, 5, 33, 300])
def test_sampling_inverts_the_filtered_distribution(cuda, vocab, filters):
    check_every_token(cuda, torch.randn(vocab) * 2, filters, at_most=4)


def test_sampling_in_several_rounds_of_the_block(cuda):
    check_every_token(cuda, torch.randn(9000) * 2, {"top_k": 50, "top_p": 0.9}, at_most=8)


@pytest.mark.gpu
@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("vocab", ON_DEVICE_VOCABS)
def test_sampling_of_large_vocabularies(gpu, vocab, filters):
    check_every_token(gpu, torch.randn(vocab) * 3, filters, at_most=64)


@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        ({"top_k": 5}, 5),
        ({"top_p": 0.5}, 20),
        ({"min_p": 1.0}, 40),
        ({"top_k": 8, "top_p": 0.5}, 4),
    ],
)
def test_filters_break_ties_by_id(cuda, filters, kept):
    uniform = (torch.arange(kept) + 0.5) / kept
    assert sample(cuda, torch.zeros(kept, 40), uniform, **filters) == list(range(kept))


def test_sampling_at_the_ends_of_the_unit_interval(cuda):
    logits = torch.tensor([[-INF, 0.0, NAN, 1.0, -INF]]).repeat(2, 1)
    assert sample(cuda, logits, [0.0, 1.0 - 2.0**-53]) == [1, 3]


def test_greedy_cases(cuda):
    logits = torch.tensor([[0.0, 2.0, 2.0, 1.0]])
    assert sample(cuda, logits, [0.99], temperature=0.0) == [1]
    assert sample(cuda, logits, [0.99], temperature=1e-40) == [1]
    assert sample(cuda, logits, [0.99], top_k=1) == [1]
    for value, token in ((NAN, 0), (-INF, 0)):
        assert sample(cuda, torch.full((1, 40), value), [0.5], top_p=0.5) == [token]
    assert sample(cuda, torch.tensor([[0.0, INF, 1.0]]), [0.99]) == [1]


def test_no_rows(cuda):
    assert sample(cuda, torch.empty(0, 8), []) == []
    assert argmax(cuda, torch.empty(0, 8)) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rows", [0, 1, 5])
def test_choose_greedy_is_argmax(cuda, rows, dtype):
    hidden, logits = torch.randn(rows, 37).to(cuda.device, dtype), torch.randn(rows, 1000)
    out = torch.full((rows,), -1, device=cuda.device)
    suspect = torch.tensor([7], device=cuda.device)
    cuda.choose_greedy(out, suspect, hidden, logits.to(cuda.device))
    assert torch.equal(out.cpu(), logits.argmax(-1))
    assert suspect.tolist() == [0]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("column", [0, 15, 36])
def test_choose_greedy_suspects_hidden_states_that_are_not_finite(cuda, column, bad):
    hidden, logits = torch.randn(4, 37), torch.randn(4, 50)
    hidden[2, column] = bad
    out, suspect = (torch.zeros(n, dtype=torch.int64, device=cuda.device) for n in (4, 1))
    cuda.choose_greedy(out, suspect, hidden.to(cuda.device), logits.to(cuda.device))
    assert suspect.tolist() == [1]


@pytest.mark.parametrize("column", [0, 31, 49])
def test_choose_greedy_suspects_a_column_of_nan(cuda, column):
    hidden, logits = torch.randn(4, 37), torch.randn(4, 50)
    out, suspect = (torch.zeros(n, dtype=torch.int64, device=cuda.device) for n in (4, 1))
    for bad, expected in ((-torch.inf, 0), (torch.nan, 1)):  # a token ruled out is no fault
        logits[:, column] = bad
        cuda.choose_greedy(out, suspect, hidden.to(cuda.device), logits.to(cuda.device))
        assert suspect.tolist() == [expected]
