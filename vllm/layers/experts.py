# SPDX-License-Identifier: Apache-2.0
"""Mixture of experts: a router and feed-forward layers of which each token takes a few.

Owns the experts' weights. Must not know models. Both steps are ops that group tokens by expert, so
that a recorded step routes anew each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vllm.distributed.group import ALONE, Group
from vllm.kernels import ops
from vllm.layers.linear import (
    Linear,
    Target,
    end_to_end,
    fill_tiles,
    repack,
    reserve_tiles,
)
from vllm.layers.mlp import FeedForward
from vllm.layers.workspace import Workspace
from vllm.quantization.weight import Weight


@dataclass(frozen=True)
class Routing:
    """How a token's experts follow from its logits; see `ops.route_experts`."""

    top: int
    sigmoid: bool = False
    groups: int = 1
    top_groups: int = 1
    group_best: int = 1
    renormalize: bool = True
    factor: float = 1.0


@dataclass(frozen=True)
class ExpertWeights:
    """Matrices of E experts: dense, on a GPU [E, out, in] and on the CPU in tiles, or packed, uint8
    [E, bytes], in format `qtype`.
    """

    data: Tensor
    qtype: int


def stack_experts(experts: Sequence[Sequence[Weight]], target: Target) -> ExpertWeights:
    """`experts[e]` are the matrices of expert e that share an input; each becomes one."""
    kinds = {weight.qtype for own in experts for weight in own}
    packed = next(iter(kinds)) if len(kinds) == 1 and experts[0][0].packed else None
    if packed is not None and target.packs:
        whole = target.keep(end_to_end([repack(own) for own in experts]))
        return ExpertWeights(whole.view(len(experts), -1), packed)
    first = experts[0]
    rows, columns = sum(weight.shape[0] for weight in first), first[0].shape[1]
    dtypes = {target.dense_dtype(weight) for own in experts for weight in own}
    dtype = dtypes.pop() if len(dtypes) == 1 else torch.float32  # where different ones meet
    if target.device.type == "cpu":
        data = reserve_tiles(len(experts), dtype, rows, columns, target.tape)
        for matrix, own in zip(data, experts, strict=True):
            fill_tiles(matrix, (weight.to_dense(dtype, target.device) for weight in own))
        return ExpertWeights(data, ops.GGML_F32)
    data = torch.empty((len(experts), rows, columns), dtype=dtype, device=target.device)
    for matrix, own in zip(data, experts, strict=True):
        parts = matrix.split([weight.shape[0] for weight in own])
        for part, weight in zip(parts, own, strict=True):
            part.copy_(weight.to_dense(dtype, target.device))
    return ExpertWeights(data, ops.GGML_F32)


class Experts:
    """`layer(out, x)`. `shared` is what every token goes through besides. Where every rank has a
    part of each expert, `out` is the sum over `group`.
    """

    def __init__(
        self,
        router: Linear,
        bias: Tensor | None,
        routing: Routing,
        gate_up: ExpertWeights,
        down: ExpertWeights,
        inner: int,
        hidden: int,
        shared: FeedForward | None,
        workspace: Workspace,
        group: Group = ALONE,
    ) -> None:
        self.group = group
        self.router, self.bias, self.routing = router, bias, routing
        self.gate_up, self.down, self.inner = gate_up, down, inner
        self.shared = shared
        self._logits = workspace.reserve("router logits", router.out_features, torch.float32)
        self._ids = workspace.reserve("expert ids", routing.top, torch.int32)
        self._weights = workspace.reserve("expert weights", routing.top, torch.float32)
        self._shared = None if shared is None else workspace.reserve("shared experts", hidden)

    def __call__(self, out: Tensor, x: Tensor) -> None:
        count = x.shape[0]
        addend = None
        if self.shared is not None and self._shared is not None:
            addend = self._shared.rows(count)
            self.shared(addend, x)
        logits, ids = self._logits.rows(count), self._ids.rows(count)
        weights = self._weights.rows(count)
        self.router(logits, x)
        self.route(ids, weights, logits)
        self.compute(out, x, ids, weights, addend)
        self.group.all_reduce(out)

    def route(self, ids: Tensor, weights: Tensor, logits: Tensor) -> None:
        r = self.routing
        ops.route_experts(
            ids,
            weights,
            logits,
            self.bias,
            r.sigmoid,
            r.groups,
            r.top_groups,
            r.group_best,
            r.renormalize,
            r.factor,
        )

    def compute(
        self, out: Tensor, x: Tensor, ids: Tensor, weights: Tensor, addend: Tensor | None
    ) -> None:
        gate_up, down = self.gate_up, self.down
        ops.fused_experts(
            out,
            x,
            ids,
            weights,
            gate_up.data,
            gate_up.qtype,
            down.data,
            down.qtype,
            self.inner,
            addend,
        )
