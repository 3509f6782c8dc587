# SPDX-License-Identifier: Apache-2.0
"""The Llama family (Touvron et al. 2023; Mistral and SmolLM2 share it): forward pass and weights.

Owns the order of layers. Must not know scheduling, sampling, or where a weight was stored.
Activations live in buffers allocated once; a step uses their first T rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vllm.kernels import ops
from vllm.layers.attention import AttentionInputs, LayerCache, PagedAttention
from vllm.layers.embedding import Embedding
from vllm.layers.linear import Linear, Target, make_linear
from vllm.layers.norm import RMSNorm
from vllm.layers.rope import cos_sin_table
from vllm.loader.checkpoint import Checkpoint, ModelLoadError, expect_shape
from vllm.models.config import ModelConfig
from vllm.models.shapes import tensor_shapes
from vllm.quantization.weight import Weight

MAX_KEPT_VIEWS = 256  # steps of up to so many different token counts find their views ready


@dataclass(slots=True)
class Buffers:
    """Activations of T tokens. v is columns of `qkv`, and so are q and k, unless heads are normed:
    then they are the same columns of `normed_q` and `normed_k`, which otherwise are `qkv` itself.
    """

    hidden: Tensor  # [T, hidden]
    residual: Tensor  # [T, hidden]
    qkv: Tensor  # [T, (heads + 2 * kv_heads) * head_dim]
    q: Tensor
    k: Tensor
    v: Tensor
    attention: Tensor  # [T, heads * head_dim]
    gate_up: Tensor  # [T, 2 * intermediate]
    activated: Tensor  # [T, intermediate]
    normed_q: Tensor  # as qkv
    normed_k: Tensor


class Workspace:
    """The buffers for the largest step, and views of their first T rows."""

    def __init__(self, config: ModelConfig, max_tokens: int, target: Target) -> None:
        q_size = config.num_heads * config.head_dim
        kv_size = config.num_kv_heads * config.head_dim
        dtype = target.dtype if target.device.type == "cuda" else torch.float32
        self._split = [q_size, kv_size, kv_size]
        qkv_size = sum(self._split)
        self._views: dict[int, Buffers] = {}
        self._whole = [
            torch.empty((max_tokens, width), dtype=dtype, device=target.device)
            for width in (
                config.hidden_size,
                config.hidden_size,
                qkv_size,
                q_size,
                2 * config.intermediate_size,
                config.intermediate_size,
                *([qkv_size, qkv_size] if config.qk_norm else []),
            )
        ]

    def rows(self, count: int) -> Buffers:
        """Views of `count` rows."""
        views = self._views.get(count)
        if views is None:
            if len(self._views) >= MAX_KEPT_VIEWS:
                self._views.clear()
            views = self._views[count] = self._slice(count)
        return views

    def _slice(self, count: int) -> Buffers:
        # A whole buffer where it fits, so that torch.mm(out=) sees a tensor of the right shape.
        hidden, residual, qkv, attention, gate_up, activated, *normed = (
            whole[:count] for whole in self._whole
        )
        normed_q, normed_k = normed or (qkv, qkv)
        q, k, v = (
            whole.split(self._split, dim=1)[part]
            for part, whole in enumerate((normed_q, normed_k, qkv))
        )
        return Buffers(
            hidden, residual, qkv, q, k, v, attention, gate_up, activated, normed_q, normed_k
        )


class LlamaLayer:
    """Attention and MLP, each behind a norm and added to the residual stream."""

    def __init__(self, config: ModelConfig, load: Loader, index: int, cos_sin: Tensor) -> None:
        prefix = f"model.layers.{index}."
        self.head_dim = config.head_dim
        self.neox = not config.rope.interleaved
        self.cos_sin = cos_sin
        eps = config.rms_norm_eps
        attention, mlp = prefix + "self_attn.", prefix + "mlp."
        self.input_norm = RMSNorm(load.vector(prefix + "input_layernorm"), eps)
        self.post_norm = RMSNorm(load.vector(prefix + "post_attention_layernorm"), eps)
        self.qkv = load.linear(attention + "q_proj", attention + "k_proj", attention + "v_proj")
        self.o = load.linear(attention + "o_proj")
        self.gate_up = load.linear(mlp + "gate_proj", mlp + "up_proj")
        self.down = load.linear(mlp + "down_proj")
        self.attention = PagedAttention(config.head_dim)

    def __call__(
        self, b: Buffers, positions: Tensor, cache: LayerCache, step: AttentionInputs
    ) -> None:
        """`b.hidden` holds the normed input and, at the end, what this layer adds."""
        self.qkv(b.qkv, b.hidden)
        self.norm_heads(b)
        ops.rotary_embedding(positions, b.q, b.k, self.head_dim, self.cos_sin, self.neox)
        self.attention(b.attention, b.q, b.k, b.v, cache=cache, step=step)
        self.o(b.hidden, b.attention)
        self.post_norm.add(b.hidden, b.residual)
        self.gate_up(b.gate_up, b.hidden)
        ops.silu_and_mul(b.activated, b.gate_up)
        self.down(b.hidden, b.activated)

    def norm_heads(self, b: Buffers) -> None:
        """From `b.qkv` to `b.q` and `b.k`: the same columns here; other families norm heads."""


class LlamaModel:
    """Token ids to hidden states to logits.

    `progress(done)` is told the share of the weights that is loaded, 0 to 1. `max_tokens` bounds
    the tokens of a step, `max_position` the positions. Families that differ within a layer set
    `layer_class`.
    """

    layer_class: type[LlamaLayer] = LlamaLayer

    def __init__(
        self,
        checkpoint: Checkpoint,
        target: Target,
        max_tokens: int,
        max_position: int,
        progress: Callable[[float], None] = lambda _done: None,
    ) -> None:
        config = self.config = checkpoint.config
        load = Loader(checkpoint, target)
        cos_sin = cos_sin_table(config.rope, max_position).to(target.device)
        embedding = load.weight("model.embed_tokens.weight")
        self.embedding = Embedding(embedding, target)
        self.layers: list[LlamaLayer] = []
        for index in range(config.num_layers):
            self.layers.append(self.layer_class(config, load, index, cos_sin))
            progress((index + 1) / (config.num_layers + 1))
        self.norm = RMSNorm(load.vector("model.norm"), config.rms_norm_eps)
        tied = config.tie_word_embeddings
        head = embedding if tied else load.weight("lm_head.weight")
        self.lm_head = make_linear([head], [], target)
        self.workspace = Workspace(config, max_tokens, target)
        progress(1.0)

    def forward(
        self,
        token_ids: Tensor,
        positions: Tensor,
        caches: list[LayerCache],
        step: AttentionInputs,
    ) -> Tensor:
        """Hidden states [T, hidden] after the last norm, for ids i64 [T] at positions i64 [T].

        The result lives in the workspace until the next call.
        """
        b = self.workspace.rows(token_ids.shape[0])
        self.embedding(b.residual, token_ids)
        first = self.layers[0].input_norm
        first(b.hidden, b.residual)
        for layer, cache in zip(self.layers, caches, strict=True):
            if layer is not self.layers[0]:
                layer.input_norm.add(b.hidden, b.residual)
            layer(b, positions, cache, step)
        self.norm.add(b.hidden, b.residual)
        return b.hidden

    def logits(self, out: Tensor, hidden: Tensor) -> None:
        """out f32 [S, vocab] = the head over hidden [S, hidden]."""
        self.lm_head(out, hidden)


class Loader:
    """Checks shapes on the way from checkpoint to layers and picks the layer for a format."""

    def __init__(self, checkpoint: Checkpoint, target: Target) -> None:
        self._checkpoint, self._target = checkpoint, target
        self._shapes = tensor_shapes(checkpoint.config)

    def weight(self, name: str) -> Weight:
        return expect_shape(self._checkpoint.get(name), name, self._shapes[name])

    def vector(self, name: str) -> Tensor:
        """A norm's weight, f32 on the CPU and the model's dtype elsewhere."""
        on_cpu = self._target.device.type == "cpu"
        dtype = torch.float32 if on_cpu else self._target.dtype or torch.float32
        return self.weight(name + ".weight").to_dense(dtype, self._target.device)

    def linear(self, *names: str) -> Linear:
        """One layer over the matrices `names` (with their biases where the model has them)."""
        weights = [self.weight(name + ".weight") for name in names]
        biased = [name + ".bias" for name in names if self._biased(name + ".bias")]
        return make_linear(weights, [self.weight(name) for name in biased], self._target)

    def _biased(self, name: str) -> bool:
        """Whether the configuration calls for this bias; a bias it ignores would be wrong."""
        if name not in self._shapes and self._checkpoint.has(name):
            raise ModelLoadError(
                f"tensor {name!r} is there, but the configuration has no such bias"
            )
        return name in self._shapes
