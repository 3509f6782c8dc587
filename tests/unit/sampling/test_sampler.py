# SPDX-License-Identifier: Apache-2.0
"""The sampler against a plain numpy version of its rules, one row at a time."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from vllm.engine.request import Request
from vllm.sampling.params import SamplingParams
from vllm.sampling.rng import uniform
from vllm.sampling.sampler import Sampler

VOCAB = 50


def make(row: int, prompt: list[int], output: list[int], **params: Any) -> Request:
    request = Request(str(row), prompt, SamplingParams(**params), seed=params.get("seed") or 0)
    request.output_token_ids = output
    request.row = row
    return request


def expected_token(logits: np.ndarray, request: Request) -> int:
    """Bans, penalties, temperature, min-p, top-k, top-p, draw: as the parameters are defined."""
    p, output = request.sampling_params, request.output_token_ids
    logits = logits.astype(np.float64)
    for token, bias in (p.logit_bias or {}).items():
        logits[token] += bias
    if p.allowed_token_ids:
        logits[np.setdiff1d(np.arange(VOCAB), p.allowed_token_ids)] = -np.inf
    if len(output) < p.min_tokens:
        logits[sorted(p._all_stop_token_ids)] = -np.inf
    for token in set(output) | set(request.prompt_token_ids):
        factor = p.repetition_penalty
        logits[token] = logits[token] / factor if logits[token] > 0 else logits[token] * factor
    for token in set(output):
        logits[token] -= p.frequency_penalty * output.count(token) + p.presence_penalty
    if p.greedy:
        return int(logits.argmax())
    weights = np.exp((logits - logits.max()) / p.temperature)
    weights[weights < p.min_p] = 0
    order = np.argsort(-weights, kind="stable")
    if p.top_k > 0:
        weights[order[p.top_k :]] = 0
    if p.top_p < 1:
        share = np.cumsum(weights[order]) / weights.sum()
        weights[order[np.searchsorted(share, p.top_p) + 1 :]] = 0
    drawn = uniform(np.array([request.seed], np.uint64), np.array([len(output)], np.uint64))[0]
    cumulative = np.cumsum(weights) / weights.sum()
    return int(np.searchsorted(cumulative, drawn, side="right"))


def random_request(rng: random.Random, row: int) -> Request:
    ids = lambda n: [rng.randrange(VOCAB) for _ in range(n)]  # noqa: E731
    return make(
        row,
        ids(rng.randrange(1, 20)),
        ids(rng.randrange(10)),
        temperature=rng.choice([0.0, 0.5, 1.0, 1.7]),
        top_k=rng.choice([-1, 0, 1, 3, 1000]),
        top_p=rng.choice([1.0, 0.3, 0.9]),
        min_p=rng.choice([0.0, 0.0, 0.1]),
        repetition_penalty=rng.choice([1.0, 1.5, 0.7]),
        frequency_penalty=rng.choice([0.0, 0.4, -1.0]),
        presence_penalty=rng.choice([0.0, 1.2]),
        logit_bias=rng.choice([None, {3: 5.0, 7: -100.0}]),
        allowed_token_ids=rng.choice([None, None, [1, 4, 9, 16, 25, 36, 49]]),
        stop_token_ids=ids(2),
        min_tokens=rng.choice([0, 6]),
        max_tokens=None,
        seed=rng.randrange(2**63),
    )


@pytest.mark.parametrize("seed", range(8))
def test_batches_equal_the_rules_row_by_row(seed: int) -> None:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    requests = [random_request(rng, row) for row in range(12)]
    sampler = Sampler(16, VOCAB, torch.device("cpu"))
    for request in requests:
        sampler.add(request)
    rng.shuffle(requests)
    for _ in range(5):
        due = requests[: rng.randrange(1, len(requests) + 1)]
        logits = torch.randn(len(due), VOCAB) * 3
        expected = [
            expected_token(row, request)
            for row, request in zip(logits.numpy().copy(), due, strict=True)
        ]
        rows = np.array([request.row for request in due], np.intp)
        found = sampler.sample(logits, due, rows).token_ids
        assert found == expected
        for request, token in zip(due, found, strict=True):
            request.output_token_ids.append(token)


def test_rows_are_clean_for_the_next_request() -> None:
    sampler = Sampler(1, VOCAB, torch.device("cpu"))
    first = make(
        0, [1], [], temperature=0.0, logit_bias={5: 100.0}, presence_penalty=2.0, logprobs=1
    )
    sampler.add(first)
    sampler.remove(0)
    second = make(0, [1], [], temperature=0.0)
    sampler.add(second)
    logits = torch.zeros(1, VOCAB)
    logits[0, 8] = 1.0
    sampled = sampler.sample(logits, [second], np.array([0]))
    assert sampled.token_ids == [8]
    assert sampled.logprobs == {}


def test_frequencies_follow_the_distribution() -> None:
    """Chi-square over 20,000 draws of one request at successive positions, 5 tokens."""
    sampler = Sampler(1, 5, torch.device("cpu"))
    request = make(0, [1], [], temperature=1.0, seed=11)
    sampler.add(request)
    probabilities = np.array([0.5, 0.25, 0.15, 0.08, 0.02])
    counts, draws = np.zeros(5), 20_000
    logits = torch.log(torch.tensor(probabilities, dtype=torch.float32))[None]
    for _ in range(draws):
        (token,) = sampler.sample(logits.clone(), [request], np.array([0])).token_ids
        request.output_token_ids.append(int(token))
        counts[token] += 1
    expected = probabilities * draws
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 18.5  # 4 degrees of freedom: exceeded once in a thousand seeds


def test_uniform_numbers_are_uniform_and_distinct() -> None:
    seeds = np.repeat(np.arange(100, dtype=np.uint64), 100)
    positions = np.tile(np.arange(100, dtype=np.uint64), 100)
    drawn = uniform(seeds, positions)
    assert len(np.unique(drawn)) == len(drawn)
    assert drawn.min() >= 0.0
    assert drawn.max() < 1.0
    assert abs(drawn.mean() - 0.5) < 4 / np.sqrt(12 * len(drawn))
    grid = drawn.reshape(100, 100)
    for a, b in ((grid[:-1], grid[1:]), (grid[:, :-1], grid[:, 1:])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.05
