# SPDX-License-Identifier: Apache-2.0
"""Log probabilities that requests ask for, of sampled tokens and of prompts.

Owns their shapes: column 0 is the token that is there, the others the likeliest ones in order, or
the ids that were asked for. All are of the model's own distribution, before bias, penalties and
temperature. Must not know scheduling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vllm.engine.request import Request
from vllm.kernels import ops


@dataclass(frozen=True)
class Wish:
    """What one request wants: the `top` likeliest, or the given ids."""

    top: int
    ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class TokenLogprobs:
    """Of P positions: ids i64 [P, K + 1], logprobs f32 [P, K + 1], ranks of column 0 i64 [P]."""

    token_ids: np.ndarray
    logprobs: np.ndarray
    ranks: np.ndarray


def sample_wish(request: Request, vocab_size: int) -> Wish | None:
    """What a request wants of its sampled tokens."""
    params = request.sampling_params
    if params.logprob_token_ids:
        return Wish(0, tuple(params.logprob_token_ids))
    if params.logprobs is None:
        return None
    return Wish(vocab_size if params.logprobs == -1 else min(params.logprobs, vocab_size))


def prompt_wish(request: Request, vocab_size: int) -> int | None:
    """How many of the likeliest tokens a request wants per prompt position; None: nothing."""
    count = request.sampling_params.prompt_logprobs
    if count is None:
        return None
    return vocab_size if count == -1 else min(count, vocab_size)


def gather(logits: Tensor, tokens: np.ndarray, wishes: list[Wish]) -> list[TokenLogprobs]:
    """One `TokenLogprobs` of one position per row of `logits` f32 [L, V].

    `tokens` i64 [L] are the sampled ones, `wishes` what each row's request asked for.
    """
    asked = max(len(wish.ids) for wish in wishes)
    ids = np.full((len(wishes), 1 + asked), -1, np.int64)
    ids[:, 0] = tokens
    for row, wish in enumerate(wishes):
        ids[row, 1 : 1 + len(wish.ids)] = wish.ids
    logprobs, ranks = _of_tokens(logits, ids)
    top_logprobs, top_ids = _top(logits, max(wish.top for wish in wishes))
    results = []
    for row, wish in enumerate(wishes):
        if wish.ids:
            width = 1 + len(wish.ids)
            one = (ids[row : row + 1, :width], logprobs[row : row + 1, :width])
        else:
            tops = (top_ids[row : row + 1, : wish.top], top_logprobs[row : row + 1, : wish.top])
            one = _beside(ids[row : row + 1], logprobs[row : row + 1], *tops)
        results.append(TokenLogprobs(*one, ranks[row : row + 1, 0]))
    return results


class PromptLogprobs:
    """Fills up while a prompt is computed in chunks; P - 1 positions, of tokens 1..P-1."""

    def __init__(self, request: Request, top: int) -> None:
        positions = request.num_prompt_tokens - 1
        self.top = top
        self.tokens = np.array(request.prompt_token_ids[1:], np.int64)
        self.result = TokenLogprobs(
            np.empty((positions, top + 1), np.int64),
            np.empty((positions, top + 1), np.float32),
            np.empty(positions, np.int64),
        )

    def fill(self, first: int, logits: Tensor) -> None:
        """`logits` f32 [N, V] are of prompt positions first..first+N-1."""
        last = first + logits.shape[0]
        ids = self.tokens[first:last, None]
        logprobs, ranks = _of_tokens(logits, ids)
        top_logprobs, top_ids = _top(logits, self.top)
        both = _beside(ids, logprobs, top_ids, top_logprobs)
        self.result.token_ids[first:last], self.result.logprobs[first:last] = both
        self.result.ranks[first:last] = ranks[:, 0]


def _beside(
    ids: np.ndarray, logprobs: np.ndarray, top_ids: np.ndarray, top_logprobs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Column 0 of `ids` and `logprobs`, then the likeliest."""
    return (
        np.concatenate([ids[:, :1], top_ids], axis=1),
        np.concatenate([logprobs[:, :1], top_logprobs], axis=1),
    )


def _of_tokens(logits: Tensor, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log probabilities f32 and ranks i64 of `ids` i64 [L, J]; -1 gives NaN and 0."""
    device = logits.device
    logprobs = torch.empty(ids.shape, dtype=torch.float32, device=device)
    ranks = torch.empty(ids.shape, dtype=torch.int64, device=device)
    wanted = torch.from_numpy(np.ascontiguousarray(ids)).to(device)
    ops.token_logprobs_and_ranks(logprobs, ranks, logits, wanted)
    return logprobs.cpu().numpy(), ranks.cpu().numpy()


def _top(logits: Tensor, count: int) -> tuple[np.ndarray, np.ndarray]:
    shape = (logits.shape[0], count)
    logprobs = torch.empty(shape, dtype=torch.float32, device=logits.device)
    ids = torch.empty(shape, dtype=torch.int64, device=logits.device)
    if count > 0:
        ops.topk_logprobs(logprobs, ids, logits)
    return logprobs.cpu().numpy(), ids.cpu().numpy()
