# SPDX-License-Identifier: Apache-2.0
"""From the tensors of a checkpoint to layers: shapes checked, the layer for a format picked.

Owns the way there. Must not know in what order a model calls its layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vllm.distributed.group import ALONE, Group
from vllm.kernels import ops
from vllm.layers.attention import PagedAttention
from vllm.layers.experts import Experts, Routing, stack_experts
from vllm.layers.flash_attention import make_attention
from vllm.layers.linear import Linear, SummedLinear, Target, make_linear
from vllm.layers.mlp import FeedForward, GatedMLP
from vllm.layers.norm import RMSNorm
from vllm.layers.workspace import Workspace
from vllm.loader.checkpoint import Checkpoint, ModelLoadError, expect_shape
from vllm.models.config import ExpertsConfig, ModelConfig, ModelConfigError
from vllm.models.shapes import stacked_experts, stacked_rows, tensor_shapes
from vllm.models.split import spans, split_config
from vllm.quantization.weight import Weight


class Loader:
    """Makes layers out of named tensors, for one device, one workspace and one rank of a group.

    `config` is what the rank computes, see `vllm.models.split`.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        target: Target,
        workspace: Workspace,
        group: Group = ALONE,
    ) -> None:
        self.config: ModelConfig = split_config(checkpoint.config, group.size)
        self.target, self.workspace, self.group = target, workspace, group
        self._checkpoint = checkpoint
        self._shapes = tensor_shapes(checkpoint.config)
        self._own_shapes = tensor_shapes(self.config)

    def weight(self, name: str) -> Weight:
        """This rank's part of a tensor."""
        whole = expect_shape(self._checkpoint.get(name), name, self._shapes[name])
        return self._own(whole, name, self._own_shapes[name])

    def _own(self, whole: Weight, name: str, shape: tuple[int, ...]) -> Weight:
        """The part of `shape`: some of the rows or some of the columns."""
        rank, size = self.group.rank, self.group.size
        if whole.shape == shape:
            return whole
        if whole.shape[0] == shape[0]:
            return whole.columns(*spans(whole.shape[1:], shape[1:], rank, size))
        pieces = stacked_rows(self._checkpoint.config, name, whole.shape[0])
        parts = stacked_rows(self.config, name, shape[0])
        return whole.rows(spans(pieces, parts, rank, size))

    def vector(self, name: str) -> Tensor:
        """In the dtype of activations."""
        return self.weight(name).to_dense(self.target.activation_dtype, self.target.device)

    def norm(self, name: str) -> RMSNorm:
        """The norm with the weight `name`.weight."""
        weight = self.vector(name + ".weight")
        if self.config.norm_offset:
            weight = weight + self.config.norm_offset
        return RMSNorm(weight, self.config.rms_norm_eps)

    def attention(self, index: int) -> PagedAttention:
        """The attention over the cache of this layer. Raises `ModelConfigError` where the device
        has no kernel for the model's heads.
        """
        config = self.config
        width = config.cache_shape[2]
        if self.target.device.type == "cuda" and not ops.cuda_takes_heads(width):
            raise ModelConfigError(
                f"{config.architecture} has heads of {width} elements in its cache, the attention "
                "of device 'cuda' takes multiples of 8 up to 256 and of 24 up to 768; use "
                "--device cpu"
            )
        return make_attention(
            self.target, width, config.scale, config.window(index), config.attention_soft_cap
        )

    def linear(self, *names: str, partial: bool = False, target: Target | None = None) -> Linear:
        """One layer over the matrices `names` (with their biases where the model has them).

        Where each rank has some of their columns, the results are summed over the group, unless
        `partial`. `target` if not the model's.
        """
        weights = [self.weight(name + ".weight") for name in names]
        biased = [name + ".bias" for name in names if self._biased(name + ".bias")]
        cut = any(self._has_some_columns(name + ".weight") for name in names)
        if cut and self.group.rank:
            biased = []  # the sum has each bias once
        biases = [self.weight(name) for name in biased]
        layer = make_linear(weights, biases, target or self.target)
        return SummedLinear(layer, self.group) if cut and not partial else layer

    def _has_some_columns(self, name: str) -> bool:
        return self._shapes[name][1] != self._own_shapes[name][1]

    def _biased(self, name: str) -> bool:
        """Whether the configuration calls for this bias; a bias it ignores would be wrong."""
        if name not in self._shapes and self._checkpoint.has(name):
            raise ModelLoadError(
                f"tensor {name!r} is there, but the configuration has no such bias"
            )
        return name in self._shapes

    def feed_forward(self, index: int) -> FeedForward:
        """The layer's MLP or mixture of experts."""
        prefix = f"model.layers.{index}."
        experts = self.config.experts
        if experts is not None and experts.layers[index]:
            return self._experts(experts, prefix + experts.names.block + ".")
        return self._mlp(prefix + "mlp.")

    def _mlp(self, prefix: str, partial: bool = False) -> GatedMLP:
        fused = self.config.fused_projections
        names = ["gate_up_proj"] if fused else ["gate_proj", "up_proj"]
        gate_up = self.linear(*(prefix + name for name in names))
        down = self.linear(prefix + "down_proj", partial=partial)
        return GatedMLP(gate_up, down, self.workspace, self.config.activation)

    def _experts(self, config: ExpertsConfig, prefix: str) -> Experts:
        bias = config.correction_bias
        return Experts(
            self.linear(prefix + "gate", target=self.target.unrounded),
            self.vector(prefix + "gate.e_score_correction_bias").float() if bias else None,
            Routing(
                config.top,
                config.sigmoid,
                config.groups,
                config.top_groups,
                config.group_best,
                config.renormalize,
                config.factor,
            ),
            stack_experts(self._each_expert(prefix, "gate", "up"), self.target),
            stack_experts(self._each_expert(prefix, "down"), self.target),
            config.inner,
            self.config.hidden_size,
            self._mlp(prefix + "shared_experts.", partial=True) if config.shared else None,
            self.workspace,
            self.group,
        )

    def _each_expert(self, prefix: str, *parts: str) -> list[list[Weight]]:
        """For every expert its matrices `parts`, wherever the checkpoint has them: each expert's
        in tensors of their own, or one tensor with those of all experts.
        """
        config = self.config.experts
        assert config is not None
        if whole := self._stacked(prefix, parts):
            return [
                [self._own(weight.part(e, config.count), name, own) for name, weight, own in whole]
                for e in range(config.count)
            ]
        names = [getattr(config.names, part) for part in parts]
        return [
            [self.weight(f"{prefix}experts.{expert}.{name}.weight") for name in names]
            for expert in range(config.count)
        ]

    def _stacked(
        self, prefix: str, parts: Sequence[str]
    ) -> list[tuple[str, Weight, tuple[int, ...]]]:
        """Tensors of all experts' matrices, as far as there are any, each with its name and the
        shape of this rank's part of one matrix.
        """
        hidden, found = self.config.hidden_size, []
        whole, own = self._checkpoint.config.experts, self.config.experts
        assert whole is not None and own is not None
        kinds = stacked_experts(whole, hidden, prefix), stacked_experts(own, hidden, prefix)
        for (name, shape, has), (_, part, _) in zip(*kinds, strict=True):
            if set(has) & set(parts) and self._checkpoint.has(name):
                weight = expect_shape(self._checkpoint.get(name), name, shape)
                found.append((name, weight, part[1:]))
        return found


def permuted_rows(weight: Weight, order: Sequence[int]) -> Weight:
    """The matrix with its rows in another order, packed or not."""
    rows = weight.data.view(weight.shape[0], -1)[torch.tensor(order)]
    data = rows.reshape(-1) if weight.packed else rows
    scales = None if weight.scales is None else weight.scales[torch.tensor(order)]
    return Weight(data.contiguous(), weight.qtype, weight.shape, weight.name, scales)
