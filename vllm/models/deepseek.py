# SPDX-License-Identifier: Apache-2.0
"""DeepSeek V2 and V3: multi-head latent attention (arXiv 2405.04434) in a Llama layer.

Keys and values of all heads come from one small vector per token, besides a rotated part of the
keys that all heads share. The cache holds these two and nothing else (2.1.2 and 2.1.3 there): what
would expand a token to keys is moved into the queries, what would expand it to values behind the
attention.

    cached, one head     rotated [rope_dim] | latent [kv_rank]
    a query of a head    rotated [rope_dim] | nope [nope_dim] through the keys' matrix [kv_rank]
    attended of a head   (not used)         | latent [kv_rank], then the values' matrix [value_dim]

Experts are in the configuration. Must not know scheduling, sampling, or where a weight was stored.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vllm.kernels import ops
from vllm.layers.attention import AttentionInputs, LayerCache
from vllm.layers.linear import Linear, make_linear
from vllm.models.config import LatentConfig, ModelConfig
from vllm.models.llama import Attention, LlamaLayer, LlamaModel, Loader, Rotary
from vllm.models.weights import permuted_rows
from vllm.quantization.weight import Weight


class LatentAttention(Attention):
    """Within a head of q and k the rotated part comes first, where the rotary op wants it; in a
    checkpoint it comes last.
    """

    def __init__(self, config: ModelConfig, load: Loader, index: int, rotary: Rotary) -> None:
        assert config.latent is not None
        self.latent, self.heads = config.latent, config.num_heads
        self.head_dim = config.head_dim
        prefix = f"model.layers.{index}.self_attn."
        self.queries = _Queries(config, load, prefix)
        self.kv_a = load.linear(prefix + "kv_a_proj_with_mqa")
        self.kv_norm = load.norm(prefix + "kv_a_layernorm")
        self.to_latent, self.to_value = _by_head(config, load, prefix + "kv_b_proj.weight")
        self.o = load.linear(prefix + "o_proj")
        rope, self.cos_sin = rotary.of(index)
        self.neox = not rope.interleaved
        self.paged = load.attention(index)
        self._reserve(load, self.latent)

    def _reserve(self, load: Loader, latent: LatentConfig) -> None:
        reserve, heads = load.workspace.reserve, self.heads
        self._width = latent.rope_dim + latent.kv_rank
        self._compressed = reserve("compressed kv", self._width)
        self._cached = reserve("cached kv", self._width)
        self._q = reserve("latent queries", heads * self._width)
        self._wide = reserve("latent attended", heads * self._width)
        self._attended = reserve("attended", heads * latent.value_dim)

    def __call__(
        self, out: Tensor, x: Tensor, positions: Tensor, cache: LayerCache, step: AttentionInputs
    ) -> None:
        count, rope = x.shape[0], self.latent.rope_dim
        q, cached = self._latent_queries(self.queries(x)), self._to_cache(x)
        ops.rotary_embedding(positions, q, cached, self._width, self.cos_sin, self.neox)
        wide, attended = self._wide.rows(count), self._attended.rows(count)
        self.paged(wide, q, cached, cached, cache=cache, step=step)
        latents = self._heads_of(wide)[:, :, rope:]
        values = self._heads_of(attended)
        for head, to_value in enumerate(self.to_value):
            to_value(values[:, head], latents[:, head])
        self.o(out, attended)

    def _latent_queries(self, q: Tensor) -> Tensor:
        """[T, heads * (rope_dim + kv_rank)] of q [T, heads * (rope_dim + nope_dim)]."""
        rope, out = self.latent.rope_dim, self._q.rows(q.shape[0])
        plain, latent = self._heads_of(q), self._heads_of(out)
        ops.copy_heads(latent[:, :, :rope], plain[:, :, :rope])
        for head, to_latent in enumerate(self.to_latent):
            to_latent(latent[:, head, rope:], plain[:, head, rope:])
        return out

    def _to_cache(self, x: Tensor) -> Tensor:
        """[T, rope_dim + kv_rank]: what the cache keeps of x, not rotated yet."""
        count, rope, rank = x.shape[0], self.latent.rope_dim, self.latent.kv_rank
        self.kv_a(self._compressed.rows(count), x)
        latent, rotated = self._compressed.columns(count, (rank, rope))
        cached = self._cached.rows(count)
        ops.copy_heads(cached[:, None, :rope], rotated[:, None])
        self.kv_norm(cached[:, rope:], latent)
        return cached

    def _heads_of(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], self.heads, -1)


def _by_head(config: ModelConfig, load: Loader, name: str) -> tuple[list[Linear], list[Linear]]:
    """A layer [kv_rank] of [nope_dim] for each head's queries, and one [value_dim] of [kv_rank].

    In a checkpoint each head has its rows for keys, then those for values.
    """
    latent = config.latent
    assert latent is not None
    weight = load.weight(name)
    dtype = torch.float32 if load.target.dequantize else weight.dense_dtype
    whole = weight.to_dense(dtype, load.target.device)
    heads = whole.view(config.num_heads, latent.nope_dim + latent.value_dim, latent.kv_rank)

    def layer(matrix: Tensor) -> Linear:
        return make_linear([Weight.dense(matrix.contiguous(), name)], [], load.target)

    keys, values = heads.split([latent.nope_dim, latent.value_dim], dim=1)
    return [layer(key.t()) for key in keys], [layer(value) for value in values]


class _Queries:
    """Queries, projected at once or through a normed vector of `q_rank` elements."""

    def __init__(self, config: ModelConfig, load: Loader, prefix: str) -> None:
        latent = config.latent
        assert latent is not None
        self.a: Linear | None = None
        name = prefix + ("q_proj" if latent.q_rank is None else "q_b_proj") + ".weight"
        order = _rotated_first(config.num_heads, latent)
        self.b = make_linear([permuted_rows(load.weight(name), order)], [], load.target)
        self._q = load.workspace.reserve("queries", self.b.out_features)
        if latent.q_rank is not None:
            self.a = load.linear(prefix + "q_a_proj")
            self.norm = load.norm(prefix + "q_a_layernorm")
            self._low = load.workspace.reserve("compressed q", latent.q_rank)

    def __call__(self, x: Tensor) -> Tensor:
        count = x.shape[0]
        q = self._q.rows(count)
        if self.a is None:
            self.b(q, x)
            return q
        low = self._low.rows(count)
        self.a(low, x)
        self.norm(low, low)
        self.b(q, low)
        return q


def _rotated_first(heads: int, latent: LatentConfig) -> list[int]:
    """Rows of a projection to queries, each head's last `rope_dim` before its others."""
    nope, rope = latent.nope_dim, latent.rope_dim
    head = [*range(nope, nope + rope), *range(nope)]
    return [start + row for start in range(0, heads * len(head), len(head)) for row in head]


class DeepseekLayer(LlamaLayer):
    """A Llama layer with latent attention."""

    attention_class = LatentAttention


class DeepseekModel(LlamaModel):
    """Token ids to hidden states to logits."""

    layer_class = DeepseekLayer
