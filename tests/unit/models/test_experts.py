# SPDX-License-Identifier: Apache-2.0
"""The two implementations of a mixture agree, and weights come from either layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.models import BOS, make_llama
from tests.unit.engine.drive import finish, request
from vllm.config.engine import EngineConfig
from vllm.engine.core import EngineCore
from vllm.layers.experts import Experts, Routing, stack_experts
from vllm.layers.linear import DenseLinear, Target
from vllm.layers.mlp import GatedMLP
from vllm.layers.workspace import Workspace
from vllm.quantization.weight import Weight

HIDDEN, INNER, COUNT, TOKENS = 32, 24, 8, 20
ROUTINGS = {
    "softmax": Routing(2),
    "raw": Routing(3, renormalize=False),
    "grouped": Routing(3, groups=4, top_groups=2, factor=2.0, renormalize=False),
    "sigmoid": Routing(3, True, groups=2, top_groups=1, group_best=2, factor=2.5),
}


class PlainExperts(Experts):
    """The same in torch's operations, one expert after the other, with weights in rows."""

    matrices: tuple[Tensor, Tensor]

    def route(self, ids: Tensor, weights: Tensor, logits: Tensor) -> None:
        r = self.routing
        scores = logits.sigmoid() if r.sigmoid else logits.softmax(-1)
        choice = scores if self.bias is None else scores + self.bias
        if r.groups > 1:
            choice = without_lesser_groups(choice, r)
        best = choice.topk(r.top, dim=-1).indices
        picked = scores.gather(1, best)
        if r.renormalize:
            picked = picked / (picked.sum(-1, keepdim=True) + 1e-20)
        ids.copy_(best)
        weights.copy_(picked * r.factor)

    def compute(
        self, out: Tensor, x: Tensor, ids: Tensor, weights: Tensor, addend: Tensor | None
    ) -> None:
        gate_up, down = self.matrices
        total = torch.zeros_like(x)
        for expert in ids.unique().tolist():
            tokens, place = (ids == expert).nonzero(as_tuple=True)
            gate, up = (x[tokens] @ gate_up[expert].t()).chunk(2, dim=-1)
            y = (torch.nn.functional.silu(gate) * up) @ down[expert].t()
            total.index_add_(0, tokens, y * weights[tokens, place, None])
        out.copy_(total if addend is None else total + addend)


def without_lesser_groups(choice: Tensor, r: Routing) -> Tensor:
    members = choice.view(len(choice), r.groups, -1)
    ranks = members.topk(r.group_best, dim=-1).values.sum(-1)
    kept = torch.zeros_like(ranks, dtype=torch.bool)
    kept.scatter_(1, ranks.topk(r.top_groups, dim=-1).indices, True)
    return members.masked_fill(~kept[:, :, None], -torch.inf).flatten(1)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name", ROUTINGS)
def test_the_ops_compute_what_torch_does(name: str, shared: bool) -> None:
    torch.manual_seed(3)
    target = Target(torch.device("cpu"))
    workspace = Workspace(TOKENS, target)

    def linear(rows: int, columns: int) -> DenseLinear:
        return DenseLinear([torch.randn(rows, columns) / columns**0.5], None, target.tape)

    mlp = GatedMLP(linear(2 * INNER, HIDDEN), linear(HIDDEN, INNER), workspace)
    gate_up = torch.randn(COUNT, 2 * INNER, HIDDEN) / 6
    down = torch.randn(COUNT, HIDDEN, INNER) / 5
    arguments = (
        linear(COUNT, HIDDEN),
        torch.rand(COUNT) * 0.3 if name == "sigmoid" else None,
        ROUTINGS[name],
        stack_experts([[Weight.dense(matrix, "gate_up")] for matrix in gate_up], target),
        stack_experts([[Weight.dense(matrix, "down")] for matrix in down], target),
        INNER,
        HIDDEN,
        mlp if shared else None,
        workspace,
    )
    x = torch.randn(TOKENS, HIDDEN)
    found, expected = torch.empty_like(x), torch.empty_like(x)
    Experts(*arguments)(found, x)
    plain = PlainExperts(*arguments)
    plain.matrices = gate_up, down
    plain(expected, x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_routings_of_the_test_differ() -> None:
    assert len({replace(routing) for routing in ROUTINGS.values()}) == len(ROUTINGS)


QWEN3_MOE = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 48,
}


def tokens(folder: Path) -> list[int]:
    engine = EngineCore(EngineConfig(str(folder)))
    return finish(engine, [request("r", [BOS, 1, 2, 3], max_tokens=12)])["r"].tokens


def test_stacked_and_separate_experts_are_the_same_model(tmp_path: Path) -> None:
    """One tensor for all experts of a layer, as transformers keeps them, or one for each."""
    folder = make_llama(tmp_path, **QWEN3_MOE)
    expected = tokens(folder)
    tensors = load_file(folder / "model.safetensors")
    for layer in range(2):
        prefix = f"model.layers.{layer}.mlp.experts."
        each = [
            {p: tensors.pop(f"{prefix}{e}.{p}_proj.weight") for p in ("gate", "up", "down")}
            for e in range(6)
        ]
        gate_up = [torch.cat([own["gate"], own["up"]]) for own in each]
        tensors[prefix + "gate_up_proj"] = torch.stack(gate_up)
        tensors[prefix + "down_proj"] = torch.stack([own["down"] for own in each])
    save_file(tensors, folder / "model.safetensors")
    assert tokens(folder) == expected


def test_one_request_alone_and_among_others(tmp_path: Path) -> None:
    """Decode steps are recorded; each replay routes its own tokens."""
    folder = make_llama(tmp_path, **QWEN3_MOE)
    prompts = {f"r{i}": [BOS, *range(i, i + 5 + i)] for i in range(5)}
    engine = EngineCore(EngineConfig(str(folder)))
    alone = {
        name: finish(engine, [request(name, prompt, max_tokens=20)])[name].tokens
        for name, prompt in prompts.items()
    }
    every = [request(name, prompt, max_tokens=20) for name, prompt in prompts.items()]
    together = finish(EngineCore(EngineConfig(str(folder))), every)
    assert {name: answer.tokens for name, answer in together.items()} == alone
