# SPDX-License-Identifier: Apache-2.0
"""The Qwen family: what differs from Llama in the forward pass.

Qwen2 is Llama with biases on queries, keys and values, which the configuration says and the layers
follow. Qwen3 has no biases; it norms every query and key head before the rotary embedding, and may
have experts. Must not know scheduling, sampling, or where a weight was stored.
"""

from __future__ import annotations

from torch import Tensor

from vllm.models.config import ModelConfig
from vllm.models.llama import Attention, LlamaLayer, LlamaModel, Loader, Rotary


class HeadNormAttention(Attention):
    """Attention with a norm over each head of q and k; all heads share its weight."""

    def __init__(self, config: ModelConfig, load: Loader, index: int, rotary: Rotary) -> None:
        super().__init__(config, load, index, rotary)
        prefix = f"model.layers.{index}.self_attn."
        self.q_norm, self.k_norm = load.norm(prefix + "q_norm"), load.norm(prefix + "k_norm")
        self._normed_q = load.workspace.reserve("normed q", sum(self.widths))
        self._normed_k = load.workspace.reserve("normed k", sum(self.widths))

    def project(self, x: Tensor) -> tuple[Tensor, ...]:
        """Every head of q, k and v goes through both norms: only so is a row one head. What is
        not wanted of the results is not read.
        """
        count = x.shape[0]
        _, _, v = super().project(x)
        heads = self._qkv.rows(count).view(-1, self.head_dim)
        self.q_norm(self._normed_q.rows(count).view(-1, self.head_dim), heads)
        self.k_norm(self._normed_k.rows(count).view(-1, self.head_dim), heads)
        q, _, _ = self._normed_q.columns(count, self.widths)
        _, k, _ = self._normed_k.columns(count, self.widths)
        return q, k, v


class Qwen3Layer(LlamaLayer):
    """A Llama layer whose attention norms heads."""

    attention_class = HeadNormAttention


class Qwen3Model(LlamaModel):
    """Token ids to hidden states to logits."""

    layer_class = Qwen3Layer
