# SPDX-License-Identifier: Apache-2.0
"""Logits to tokens, for all rows of a step at once.

Owns the sampling state of running requests by row, all of it derived from the request, so that a
request that comes back after preemption goes on as if nothing had happened. Must not know
scheduling or the wire.

Order: log probabilities are taken first; then edits (bias, bans, minimum length), penalties,
temperature, min-p, top-k, top-p, and one draw from what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from vllm.engine.request import Request
from vllm.kernels import ops
from vllm.sampling import penalties
from vllm.sampling.draws import Draws
from vllm.sampling.edits import LogitEdit, make_edits
from vllm.sampling.logprobs import TokenLogprobs, Wish, gather, sample_wish
from vllm.sampling.thinking import Markers, ThinkingBudget


@dataclass(slots=True)
class Sampled:
    """`token_ids` [S] in the order of the rows given; log probabilities by index, if asked.

    `nans`: number of NaN logits by index; the token of such a row means nothing.
    """

    token_ids: list[int]
    logprobs: dict[int, TokenLogprobs] = field(default_factory=dict)
    nans: dict[int, int] = field(default_factory=dict)


class Sampler:
    """Parameters of up to `max_num_seqs` requests in arrays indexed by `Request.row`."""

    def __init__(
        self,
        max_num_seqs: int,
        vocab_size: int,
        device: torch.device,
        thinking: Markers | None = None,
    ) -> None:
        self.vocab_size = vocab_size
        self._thinking = thinking
        self.device = device
        self._draws = Draws(max_num_seqs, vocab_size, device)
        self._penalties = np.zeros((max_num_seqs, 3), np.float32)
        self._edits: dict[int, list[LogitEdit]] = {}
        self._counts: dict[int, penalties.TokenCounts] = {}
        self._wishes: dict[int, Wish] = {}

    def add(self, request: Request) -> None:
        """Take in a request that was given a row."""
        params, row = request.sampling_params, request.row
        self._draws.add(request)
        if edits := self._edits_of(request):
            self._edits[row] = edits
        if penalties.wanted(request):
            self._counts[row] = penalties.TokenCounts(request)
            self._penalties[row] = (
                params.repetition_penalty,
                params.frequency_penalty,
                params.presence_penalty,
            )
        if (wish := sample_wish(request, self.vocab_size)) is not None:
            self._wishes[row] = wish

    def _edits_of(self, request: Request) -> list[LogitEdit]:
        edits = make_edits(request, self.vocab_size)
        if request.sampling_params.thinking_token_budget is None:
            return edits
        assert self._thinking is not None, "a thinking budget passed validation without markers"
        return [ThinkingBudget(request, self._thinking, self.vocab_size, edits)]

    def remove(self, row: int) -> None:
        """Forget the request of a row."""
        self._draws.remove(row)
        for table in (self._edits, self._counts, self._wishes):
            table.pop(row, None)

    @property
    def takes_likeliest(self) -> bool:
        """Whether every request takes the likeliest token as it is, and nothing else."""
        return not (self._draws.drawing or self._edits or self._counts or self._wishes)

    @property
    def only_draws(self) -> bool:
        """Whether no request asks for more than a token drawn from the logits as they are."""
        return not (self._edits or self._counts or self._wishes)

    def draw(
        self, out: Tensor, logits: Tensor, requests: Sequence[Request], rows: np.ndarray
    ) -> None:
        """What `sample` does where `only_draws`, to out i64 [S] on the device and without waiting
        for it; `logits` stay.
        """
        self._draws.draw(out, logits, requests, rows)

    def sample(self, logits: Tensor, requests: Sequence[Request], rows: np.ndarray) -> Sampled:
        """The next token of each request: `logits` f32 [S, V] (changed), `rows` intp [S]."""
        wished, raw = self._keep_raw(logits, rows)
        self._edit(logits, requests, rows)
        self._penalize(logits, rows)
        out = torch.empty(len(rows), dtype=torch.int64, device=logits.device)
        self._draws.draw(out, logits, requests, rows)
        tokens = out.cpu().numpy()
        if self._counts:
            self._count(rows, tokens)
        if raw is None:
            return Sampled(tokens.tolist())
        wishes = [self._wishes[int(rows[index])] for index in wished]
        found = gather(raw, tokens[wished], wishes)
        return Sampled(tokens.tolist(), dict(zip(wished, found, strict=True)))

    def _keep_raw(self, logits: Tensor, rows: np.ndarray) -> tuple[list[int], Tensor | None]:
        """A copy of the logits whose log probabilities are asked for, with their indices."""
        if not self._wishes:
            return [], None
        wished = [index for index, row in enumerate(rows.tolist()) if row in self._wishes]
        if not wished:
            return [], None
        return wished, logits.index_select(0, torch.tensor(wished, device=logits.device))

    def _edit(self, logits: Tensor, requests: Sequence[Request], rows: np.ndarray) -> None:
        if not self._edits:
            return
        found = [
            (index, entries)
            for index, row in enumerate(rows.tolist())
            for edit in self._edits.get(row, ())
            if (entries := edit.entries(requests[index])) is not None
        ]
        if not found:
            return
        sizes = [len(ids) for _, (ids, _) in found]
        places = np.repeat(np.array([index for index, _ in found], np.int64), sizes)
        ids = np.concatenate([ids for _, (ids, _) in found])
        summands = np.concatenate([summands for _, (_, summands) in found])
        ops.apply_logit_bias(logits, self._on(places), self._on(ids), self._on(summands))

    def _penalize(self, logits: Tensor, rows: np.ndarray) -> None:
        if not self._counts:
            return
        empty = (np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, bool))
        parts = [
            self._counts[row].arrays() if row in self._counts else empty for row in rows.tolist()
        ]
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(ids) for ids, _, _ in parts], out=offsets[1:])
        ids, counts, in_prompt = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        repetition, frequency, presence = (
            self._on(np.ascontiguousarray(column)) for column in self._penalties[rows].T
        )
        ops.apply_penalties(
            logits,
            self._on(ids),
            self._on(counts),
            self._on(in_prompt),
            self._on(offsets),
            repetition,
            frequency,
            presence,
        )

    def _count(self, rows: np.ndarray, tokens: np.ndarray) -> None:
        for row, token in zip(rows.tolist(), tokens.tolist(), strict=True):
            if row in self._counts:
                self._counts[row].append(token)

    def _on(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(array)
        return tensor if self.device.type == "cpu" else tensor.to(self.device)
