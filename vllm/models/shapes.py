# SPDX-License-Identifier: Apache-2.0
"""Names and shapes of the tensors that a configuration calls for.

Owns that one table, shared by model, dummy weights and tests. Must not know torch.
"""

from __future__ import annotations

from vllm.models.config import ExpertsConfig, LatentConfig, ModelConfig

Shapes = dict[str, tuple[int, ...]]


def tensor_shapes(config: ModelConfig) -> Shapes:
    """Hugging Face name to shape ([out, in] for matrices)."""
    hidden, vocab = config.hidden_size, config.vocab_size
    shapes: Shapes = {
        "model.embed_tokens.weight": (vocab, hidden),
        "model.norm.weight": (hidden,),
    }
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (vocab, hidden)
    for layer in range(config.num_layers):
        for name, shape in _layer_shapes(config, layer).items():
            shapes[f"model.layers.{layer}.{name}"] = shape
    return shapes


def stacked_experts(
    config: ExpertsConfig, hidden: int, prefix: str
) -> list[tuple[str, tuple[int, ...], tuple[str, ...]]]:
    """Tensors that may hold the matrices of all experts of a layer: name, shape, parts. The first
    two are transformers' own form, the others are GGUF's.
    """
    count, inner = config.count, config.inner
    prefix += "experts."
    return [
        (prefix + "gate_up_proj", (count, 2 * inner, hidden), ("gate", "up")),
        (prefix + "down_proj", (count, hidden, inner), ("down",)),
        (prefix + "gate_proj.weight", (count, inner, hidden), ("gate",)),
        (prefix + "up_proj.weight", (count, inner, hidden), ("up",)),
        (prefix + "down_proj.weight", (count, hidden, inner), ("down",)),
    ]


def stacked_rows(config: ModelConfig, name: str, rows: int) -> tuple[int, ...]:
    """Rows of the matrices that lie one below the other in a tensor of `rows` rows: one, but for
    fused projections.
    """
    kind = name.removesuffix(".weight").rpartition(".")[2]
    if kind == "gate_up_proj":
        return rows // 2, rows // 2
    if kind == "qkv_proj":
        q, kv = (n * config.head_dim for n in (config.num_heads, config.num_kv_heads))
        return q, kv, kv
    return (rows,)


def _layer_shapes(config: ModelConfig, layer: int) -> Shapes:
    hidden = config.hidden_size
    norms = ["input_layernorm", "post_attention_layernorm"]
    if config.output_norms:
        norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
    shapes: Shapes = {f"{name}.weight": (hidden,) for name in norms}
    if config.latent is not None:
        shapes |= _latent_attention_shapes(config, config.latent)
    else:
        shapes |= _attention_shapes(config)
    if config.experts is not None and config.has_experts(layer):
        shapes |= _expert_shapes(config, config.experts)
    else:
        shapes |= _mlp_shapes(config, "mlp.", config.intermediate_size)
    for name in _biased(config):
        shapes[name + ".bias"] = shapes[name + ".weight"][:1]
    return shapes


def _attention_shapes(config: ModelConfig) -> Shapes:
    hidden = config.hidden_size
    q, kv = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    shapes: Shapes = {
        "self_attn.q_proj.weight": (q, hidden),
        "self_attn.k_proj.weight": (kv, hidden),
        "self_attn.v_proj.weight": (kv, hidden),
    }
    if config.fused_projections:
        shapes = {"self_attn.qkv_proj.weight": (q + 2 * kv, hidden)}
    shapes["self_attn.o_proj.weight"] = (hidden, q)
    if config.qk_norm:
        shapes["self_attn.q_norm.weight"] = shapes["self_attn.k_norm.weight"] = (config.head_dim,)
    return shapes


def _latent_attention_shapes(config: ModelConfig, latent: LatentConfig) -> Shapes:
    hidden, heads = config.hidden_size, config.num_heads
    queries = heads * (latent.nope_dim + latent.rope_dim)
    shapes: Shapes = {
        "kv_a_proj_with_mqa.weight": (latent.kv_rank + latent.rope_dim, hidden),
        "kv_a_layernorm.weight": (latent.kv_rank,),
        "kv_b_proj.weight": (heads * (latent.nope_dim + latent.value_dim), latent.kv_rank),
        "o_proj.weight": (hidden, heads * latent.value_dim),
    }
    if latent.q_rank is None:
        shapes["q_proj.weight"] = (queries, hidden)
    else:
        shapes["q_a_proj.weight"] = (latent.q_rank, hidden)
        shapes["q_a_layernorm.weight"] = (latent.q_rank,)
        shapes["q_b_proj.weight"] = (queries, latent.q_rank)
    return {f"self_attn.{name}": shape for name, shape in shapes.items()}


def _mlp_shapes(config: ModelConfig, prefix: str, inner: int) -> Shapes:
    hidden = config.hidden_size
    if config.fused_projections:
        shapes: Shapes = {prefix + "gate_up_proj.weight": (2 * inner, hidden)}
    else:
        shapes = {f"{prefix}{name}_proj.weight": (inner, hidden) for name in ("gate", "up")}
    return shapes | {prefix + "down_proj.weight": (hidden, inner)}


def _expert_shapes(config: ModelConfig, experts: ExpertsConfig) -> Shapes:
    hidden, names, prefix = config.hidden_size, experts.names, experts.names.block + "."
    shapes: Shapes = {prefix + "gate.weight": (experts.count, hidden)}
    if experts.correction_bias:
        shapes[prefix + "gate.e_score_correction_bias"] = (experts.count,)
    for expert in range(experts.count):
        own = f"{prefix}experts.{expert}."
        shapes[f"{own}{names.gate}.weight"] = (experts.inner, hidden)
        shapes[f"{own}{names.up}.weight"] = (experts.inner, hidden)
        shapes[f"{own}{names.down}.weight"] = (hidden, experts.inner)
    if experts.shared:
        shapes |= _mlp_shapes(config, prefix + "shared_experts.", experts.shared)
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
