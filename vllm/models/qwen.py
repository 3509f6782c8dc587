# SPDX-License-Identifier: Apache-2.0
"""The Qwen family: what differs from Llama in the forward pass.

Qwen2 is Llama with biases on queries, keys and values, which the configuration says and the layers
follow. Qwen3 has no biases; it norms every query and key head before the rotary embedding. Must not
know scheduling, sampling, or where a weight was stored.
"""

from __future__ import annotations

from torch import Tensor

from vllm.layers.norm import RMSNorm
from vllm.models.config import ModelConfig
from vllm.models.llama import Buffers, LlamaLayer, LlamaModel, Loader


class Qwen3Layer(LlamaLayer):
    """A Llama layer with a norm over each head of q and k; all heads share its weight."""

    def __init__(self, config: ModelConfig, load: Loader, index: int, cos_sin: Tensor) -> None:
        super().__init__(config, load, index, cos_sin)
        attention = f"model.layers.{index}.self_attn."
        self.q_norm = RMSNorm(load.vector(attention + "q_norm"), config.rms_norm_eps)
        self.k_norm = RMSNorm(load.vector(attention + "k_norm"), config.rms_norm_eps)

    def norm_heads(self, b: Buffers) -> None:
        """Every head of q, k and v goes through both norms: only so is a row one head. What is
        not wanted of the results is not read.
        """
        heads = b.qkv.view(-1, self.head_dim)
        self.q_norm(b.normed_q.view(-1, self.head_dim), heads)
        self.k_norm(b.normed_k.view(-1, self.head_dim), heads)


class Qwen3Model(LlamaModel):
    """Token ids to hidden states to logits."""

    layer_class = Qwen3Layer
