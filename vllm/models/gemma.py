# SPDX-License-Identifier: Apache-2.0
"""The Gemma family: what differs from Llama in the forward pass.

Embeddings are scaled. Gemma 2 (arXiv 2408.00118) has norms behind attention and MLP too, and caps
its scores and logits; Gemma 3 (arXiv 2503.19786) norms the heads of q and k instead and has a
rotary base of its own for layers with a window. That the weights of norms are stored less one, and
which layers have windows, is in the configuration. Must not know scheduling, sampling, or where a
weight was stored.
"""

from __future__ import annotations

from torch import Tensor

from vllm.kernels import ops
from vllm.layers.attention import AttentionInputs, LayerCache
from vllm.models.config import ModelConfig
from vllm.models.llama import LlamaLayer, LlamaModel, Loader, Rotary
from vllm.models.qwen import HeadNormAttention


class GemmaModel(LlamaModel):
    """Token ids to hidden states to logits; Gemma 1's layers are Llama's."""

    def embed(self, out: Tensor, token_ids: Tensor) -> None:
        self.embedding(out, token_ids)
        ops.scale(out, self.config.embedding_scale)

    def logits(self, out: Tensor, hidden: Tensor) -> None:
        super().logits(out, hidden)
        if self.config.logit_soft_cap:
            ops.soft_cap(out, self.config.logit_soft_cap)


class Gemma2Layer(LlamaLayer):
    """Norms before and behind attention, before and behind the MLP."""

    def __init__(self, config: ModelConfig, load: Loader, index: int, rotary: Rotary) -> None:
        super().__init__(config, load, index, rotary)
        prefix = f"model.layers.{index}."
        self.mlp_norm = load.norm(prefix + "pre_feedforward_layernorm")
        self.mlp_output_norm = load.norm(prefix + "post_feedforward_layernorm")

    def __call__(
        self,
        hidden: Tensor,
        residual: Tensor,
        positions: Tensor,
        cache: LayerCache,
        step: AttentionInputs,
    ) -> None:
        self.attention(hidden, hidden, positions, cache, step)
        self.post_norm(hidden, hidden)
        self.mlp_norm.add(hidden, residual)
        self.mlp(hidden, hidden)
        self.mlp_output_norm(hidden, hidden)


class Gemma2Model(GemmaModel):
    """Token ids to hidden states to logits."""

    layer_class = Gemma2Layer


class Gemma3Layer(Gemma2Layer):
    """A Gemma 2 layer whose attention norms heads."""

    attention_class = HeadNormAttention


class Gemma3Model(GemmaModel):
    """Token ids to hidden states to logits."""

    layer_class = Gemma3Layer
