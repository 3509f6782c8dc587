# SPDX-License-Identifier: Apache-2.0
"""The gated feed-forward layer (Shazeer 2020, arXiv 2002.05202): down(act(gate(x)) * up(x)).

Owns its weights. Must not know models.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from vllm.kernels import ops
from vllm.layers.linear import Linear
from vllm.layers.workspace import Workspace

ACTIVATIONS = {"silu": ops.silu_and_mul, "gelu_tanh": ops.gelu_tanh_and_mul}


class FeedForward(Protocol):
    """`layer(out, x)`: both [T, hidden]; they may be the same memory."""

    def __call__(self, out: Tensor, x: Tensor) -> None: ...


class GatedMLP:
    """`gate_up` writes the columns of gate, then those of up."""

    def __init__(
        self, gate_up: Linear, down: Linear, workspace: Workspace, activation: str = "silu"
    ) -> None:
        self.gate_up, self.down = gate_up, down
        self.activate = ACTIVATIONS[activation]
        self._gate_up = workspace.reserve("gate_up", gate_up.out_features)
        self._activated = workspace.reserve("activated", gate_up.out_features // 2)

    def __call__(self, out: Tensor, x: Tensor) -> None:
        count = x.shape[0]
        gate_up, activated = self._gate_up.rows(count), self._activated.rows(count)
        self.gate_up(gate_up, x)
        self.activate(activated, gate_up)
        self.down(out, activated)
