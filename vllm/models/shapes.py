# SPDX-License-Identifier: Apache-2.0
"""Names and shapes of the tensors that a configuration calls for.

Owns that one table, shared by model, dummy weights and tests. Must not know torch.
"""

from __future__ import annotations

from vllm.models.config import ModelConfig


def tensor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Hugging Face name to shape ([out, in] for matrices)."""
    hidden, vocab = config.hidden_size, config.vocab_size
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (vocab, hidden),
        "model.norm.weight": (hidden,),
    }
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (vocab, hidden)
    for layer in range(config.num_layers):
        for name, shape in _layer_shapes(config).items():
            shapes[f"model.layers.{layer}.{name}"] = shape
    return shapes


def _layer_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    hidden, inner = config.hidden_size, config.intermediate_size
    q, kv = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "input_layernorm.weight": (hidden,),
        "self_attn.q_proj.weight": (q, hidden),
        "self_attn.k_proj.weight": (kv, hidden),
        "self_attn.v_proj.weight": (kv, hidden),
        "self_attn.o_proj.weight": (hidden, q),
        "post_attention_layernorm.weight": (hidden,),
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
    }
    for name in _biased(config):
        shapes[name + ".bias"] = shapes[name + ".weight"][:1]
    if config.qk_norm:
        shapes["self_attn.q_norm.weight"] = shapes["self_attn.k_norm.weight"] = (config.head_dim,)
    return shapes


def _biased(config: ModelConfig) -> tuple[str, ...]:
    """The matrices of a layer that have a bias."""
    names: tuple[str, ...] = ()
    if config.attention_bias:
        names += ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    if config.output_bias:
        names += ("self_attn.o_proj",)
    if config.mlp_bias:
        names += ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    return names
