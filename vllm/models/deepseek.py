# SPDX-License-Identifier: Apache-2.0
"""DeepSeek V2 and V3: multi-head latent attention (arXiv 2405.04434) in a Llama layer.

Keys and values of all heads come from one small vector per token, besides a rotated part of the
keys that all heads share. The cache holds what they expand to, a head at a time, in the layout of
all models: values are padded to the size of keys. Experts are in the configuration. Must not know
scheduling, sampling, or where a weight was stored.
"""

from __future__ import annotations

from torch import Tensor

from vllm.kernels import ops
from vllm.layers.attention import AttentionInputs, LayerCache, PagedAttention
from vllm.layers.linear import Linear, make_linear
from vllm.models.config import LatentConfig, ModelConfig
from vllm.models.llama import Attention, LlamaLayer, LlamaModel, Loader, Rotary
from vllm.models.weights import permuted_rows


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
        self.kv_b = load.linear(prefix + "kv_b_proj")
        self.o = load.linear(prefix + "o_proj")
        rope, self.cos_sin = rotary.of(index)
        self.neox = not rope.interleaved
        self.paged = PagedAttention(config.scale, config.window(index), config.attention_soft_cap)
        self._reserve(load, self.latent)

    def _reserve(self, load: Loader, latent: LatentConfig) -> None:
        reserve, heads = load.workspace.reserve, self.heads
        wide = heads * self.head_dim
        self._compressed = reserve("compressed kv", latent.kv_rank + latent.rope_dim)
        self._latent = reserve("latent kv", latent.kv_rank)
        self._expanded = reserve("expanded kv", heads * (latent.nope_dim + latent.value_dim))
        self._k, self._v = reserve("keys", wide), reserve("values", wide)
        self._wide = reserve("padded attended", wide)
        self._attended = reserve("attended", heads * latent.value_dim)

    def __call__(
        self, out: Tensor, x: Tensor, positions: Tensor, cache: LayerCache, step: AttentionInputs
    ) -> None:
        count = x.shape[0]
        q = self.queries(x)
        k, v = self._keys_and_values(x)
        ops.rotary_embedding(positions, q, k, self.head_dim, self.cos_sin, self.neox)
        wide, attended = self._wide.rows(count), self._attended.rows(count)
        self.paged(wide, q, k, v, cache=cache, step=step)
        ops.copy_heads(self._by_head(attended), self._by_head(wide)[:, :, : self.latent.value_dim])
        self.o(out, attended)

    def _keys_and_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        count, latent = x.shape[0], self.latent
        self.kv_a(self._compressed.rows(count), x)
        compressed, rotated = self._compressed.columns(count, (latent.kv_rank, latent.rope_dim))
        self.kv_norm(self._latent.rows(count), compressed)
        self.kv_b(self._expanded.rows(count), self._latent.rows(count))
        expanded = self._by_head(self._expanded.rows(count))
        k, v = self._k.rows(count), self._v.rows(count)
        keys, values = self._by_head(k), self._by_head(v)
        shared = rotated.unsqueeze(1).expand(-1, self.heads, -1)
        ops.copy_heads(keys[:, :, : latent.rope_dim], shared)
        ops.copy_heads(keys[:, :, latent.rope_dim :], expanded[:, :, : latent.nope_dim])
        # What pads a value was zero from the start, and is never written.
        ops.copy_heads(values[:, :, : latent.value_dim], expanded[:, :, latent.nope_dim :])
        return k, v

    def _by_head(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], self.heads, -1)


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
