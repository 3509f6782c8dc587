# SPDX-License-Identifier: Apache-2.0
"""The Llama family (Touvron et al. 2023; Mistral, Mixtral, SmolLM2 and Phi-3 share it): forward
pass and weights. Other families replace the parts that differ.

Owns the order of layers. Must not know scheduling, sampling, or where a weight was stored.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from vllm.distributed.group import ALONE, Group
from vllm.kernels import ops
from vllm.layers.attention import AttentionInputs, LayerCache
from vllm.layers.embedding import Embedding
from vllm.layers.linear import Linear, Target, make_linear
from vllm.layers.rope import cos_sin_table
from vllm.layers.workspace import Workspace
from vllm.loader.checkpoint import Checkpoint
from vllm.models.config import ModelConfig, RopeConfig
from vllm.models.weights import Loader


class Rotary:
    """Tables of cosines and sines, each made once for all layers that share it."""

    def __init__(self, config: ModelConfig, max_position: int, target: Target) -> None:
        self._config, self._max_position, self._target = config, max_position, target
        self._tables: dict[RopeConfig, Tensor] = {}

    def of(self, layer: int) -> tuple[RopeConfig, Tensor]:
        """What this layer rotates by."""
        config = self._config
        local = config.local_rope if config.window(layer) else None
        rope = config.rope if local is None else local
        if rope not in self._tables:
            table = cos_sin_table(rope, self._max_position)
            self._tables[rope] = table.to(self._target.device)
        return rope, self._tables[rope]


class Attention:
    """Queries, keys and values; rotary embedding; attention over the cache; the output projection.

    Of `qkv` all are columns side by side.
    """

    def __init__(self, config: ModelConfig, load: Loader, index: int, rotary: Rotary) -> None:
        prefix = f"model.layers.{index}.self_attn."
        self.head_dim = config.head_dim
        q_size, kv_size = (n * config.head_dim for n in (config.num_heads, config.num_kv_heads))
        self.widths = (q_size, kv_size, kv_size)
        names = ["qkv_proj"] if config.fused_projections else ["q_proj", "k_proj", "v_proj"]
        self.qkv: Linear = load.linear(*(prefix + name for name in names))
        self.o = load.linear(prefix + "o_proj")
        rope, self.cos_sin = rotary.of(index)
        self.neox = not rope.interleaved
        self.paged = load.attention(index)
        self._qkv = load.workspace.reserve("qkv", sum(self.widths))
        self._attended = load.workspace.reserve("attended", q_size)

    def __call__(
        self, out: Tensor, x: Tensor, positions: Tensor, cache: LayerCache, step: AttentionInputs
    ) -> None:
        """out, x [T, hidden]; they may be the same memory."""
        q, k, v = self.project(x)
        ops.rotary_embedding(positions, q, k, self.head_dim, self.cos_sin, self.neox)
        attended = self._attended.rows(x.shape[0])
        self.paged(attended, q, k, v, cache=cache, step=step)
        self.o(out, attended)

    def project(self, x: Tensor) -> tuple[Tensor, ...]:
        """q [T, heads * head_dim], k and v [T, kv_heads * head_dim] of x."""
        count = x.shape[0]
        self.qkv(self._qkv.rows(count), x)
        return self._qkv.columns(count, self.widths)


class LlamaLayer:
    """Attention and MLP, each behind a norm and added to the residual stream.

    Families that differ within attention set `attention_class`.
    """

    attention_class: type[Attention] = Attention

    def __init__(self, config: ModelConfig, load: Loader, index: int, rotary: Rotary) -> None:
        prefix = f"model.layers.{index}."
        self.input_norm = load.norm(prefix + "input_layernorm")
        self.post_norm = load.norm(prefix + "post_attention_layernorm")
        self.attention = self.attention_class(config, load, index, rotary)
        self.mlp = load.feed_forward(index)

    def __call__(
        self,
        hidden: Tensor,
        residual: Tensor,
        positions: Tensor,
        cache: LayerCache,
        step: AttentionInputs,
    ) -> None:
        """`hidden` holds the normed input and, at the end, what this layer adds to `residual`."""
        self.attention(hidden, hidden, positions, cache, step)
        self.post_norm.add(hidden, residual)
        self.mlp(hidden, hidden)


class LlamaModel:
    """Token ids to hidden states to logits.

    `progress(done)` is told the share of the weights that is loaded, 0 to 1. `max_tokens` bounds
    the tokens of a step, `max_position` the positions. Of a `group` this is one rank's part, whose
    `forward` all make together; rank 0 alone has the head. Families that differ within a layer set
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
        group: Group = ALONE,
    ) -> None:
        workspace = Workspace(max_tokens, target)
        load = Loader(checkpoint, target, workspace, group)
        config = self.config = load.config
        rotary = Rotary(config, max_position, target)
        embedding = load.weight("model.embed_tokens.weight")
        self.embedding = Embedding(embedding, target)
        self.layers: list[LlamaLayer] = []
        for index in range(config.num_layers):
            self.layers.append(self.layer_class(config, load, index, rotary))
            progress((index + 1) / (config.num_layers + 1))
        self.norm = load.norm("model.norm")
        self.lm_head: Linear | None = None
        if group.rank == 0:
            tied = config.tie_word_embeddings
            head = embedding if tied else load.weight("lm_head.weight")
            self.lm_head = make_linear([head], [], target)
        self._hidden = workspace.reserve("hidden", config.hidden_size)
        self._residual = workspace.reserve("residual", config.hidden_size)
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
        count = token_ids.shape[0]
        hidden, residual = self._hidden.rows(count), self._residual.rows(count)
        self.embed(residual, token_ids)
        self.layers[0].input_norm(hidden, residual)
        for layer, cache in zip(self.layers, caches, strict=True):
            if layer is not self.layers[0]:
                layer.input_norm.add(hidden, residual)
            layer(hidden, residual, positions, cache, step)
        self.norm.add(hidden, residual)
        return hidden

    def embed(self, out: Tensor, token_ids: Tensor) -> None:
        """out [T, hidden] = what the first layer is given."""
        self.embedding(out, token_ids)

    def logits(self, out: Tensor, hidden: Tensor) -> None:
        """out f32 [S, vocab] = the head over hidden [S, hidden]."""
        assert self.lm_head is not None, "rank 0 alone has the head"
        self.lm_head(out, hidden)
