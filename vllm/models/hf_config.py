# SPDX-License-Identifier: Apache-2.0
"""Hugging Face's config.json as a `ModelConfig`: one function for each family.

Owns the keys of each family and the defaults that its files leave out. Must not know tensors:
importing torch here is a bug.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from vllm.models.config import (
    MOST_LAYERS,
    ExpertNames,
    ExpertsConfig,
    LatentConfig,
    ModelConfig,
    ModelConfigError,
    RopeConfig,
)
from vllm.models.encoder_config import ARCHITECTURES as ENCODERS
from vllm.models.fields import Fields
from vllm.models.hf_quantization import check_quantization
from vllm.models.hf_rope import parameters, read_rope, yarn_magnitude

Values = dict[str, Any]  # keyword arguments of ModelConfig


def from_hf(config: Mapping[str, Any], source: str) -> ModelConfig:
    """The configuration in a Hugging Face `config.json`. `source` names it in errors.

    Raises `ModelConfigError` in one line that names the key and the value.
    """
    architecture = _architecture(config.get("architectures"))
    family = FAMILIES.get(architecture) if isinstance(architecture, str) else None
    if family is None:
        if architecture in ENCODERS:
            raise ModelConfigError(
                f"{source}: {architecture} is an encoder, which is not served; LLM.embed takes it"
            )
        raise ModelConfigError(
            f"{source}: architecture {architecture!r} is not supported; supported are "
            + ", ".join(FAMILIES)
        )
    fields = Fields(config, source)
    check_quantization(fields)
    try:
        return ModelConfig(architecture=architecture, **family(fields))
    except ModelConfigError as error:
        if source in str(error):
            raise
        raise ModelConfigError(f"{source}: {error}") from None
    except (ArithmeticError, TypeError) as error:  # a value that no check above knows of
        raise ModelConfigError(
            f"{source}: the model cannot be computed with these values: {error.args[-1]}"
        ) from None


def _architecture(names: Any) -> Any:
    return names[0] if isinstance(names, list) and names else names


# Families. Each returns the keyword arguments of `ModelConfig` but the architecture.


def _llama(fields: Fields) -> Values:
    if fields.has("sliding_window"):
        raise ModelConfigError(
            f"{fields.source}: sliding_window {fields.values['sliding_window']!r} is not supported "
            "for LlamaForCausalLM; MistralForCausalLM has windows"
        )
    biased = fields.flag("attention_bias", False)
    return _decoder(fields) | {
        "attention_bias": biased,
        "output_bias": biased,
        "mlp_bias": fields.flag("mlp_bias", False),
    }


def _mistral(fields: Fields) -> Values:
    return _decoder(fields) | {"windows": _windows(fields, lambda _layer: True)}


def _mixtral(fields: Fields) -> Values:
    experts = ExpertsConfig(
        count=fields.integer("num_local_experts", 8),
        top=fields.integer("num_experts_per_tok", 2),
        inner=fields.integer("intermediate_size"),
        layers=(True,) * _layer_count(fields),
        names=ExpertNames("block_sparse_moe", "w1", "w3", "w2"),
    )
    return _mistral(fields) | {"experts": experts}


def _qwen2(fields: Fields) -> Values:
    return _decoder(fields) | {"attention_bias": True, "windows": _qwen_windows(fields)}


def _qwen3(fields: Fields) -> Values:
    biased = fields.flag("attention_bias", False)
    return _decoder(fields, head_dim=128) | {
        "attention_bias": biased,
        "output_bias": biased,
        "qk_norm": True,
        "windows": _qwen_windows(fields),
    }


def _qwen3_moe(fields: Fields) -> Values:
    step = fields.integer("decoder_sparse_step", 1)
    dense = fields.values.get("mlp_only_layers") or []
    if not isinstance(dense, list):
        raise fields.wrong("mlp_only_layers", "a list of layers")
    experts = ExpertsConfig(
        count=fields.integer("num_experts", 128),
        top=fields.integer("num_experts_per_tok", 8),
        inner=fields.integer("moe_intermediate_size", 768),
        layers=tuple(
            layer not in dense and (layer + 1) % max(1, step) == 0
            for layer in range(_layer_count(fields))
        ),
        renormalize=fields.flag("norm_topk_prob", False),
    )
    return _qwen3(fields) | {"experts": experts}


def _gemma(fields: Fields) -> Values:
    """Gemma 1. Its early files say "gelu" where the tanh formula is meant."""
    name = fields.text("hidden_activation", fields.text("hidden_act", "gelu_pytorch_tanh"))
    if name not in ("gelu_pytorch_tanh", "gelu"):
        raise ModelConfigError(
            f"{fields.source}: hidden_activation {name!r} is not supported, only "
            "'gelu_pytorch_tanh'"
        )
    decoder = _decoder(fields, head_dim=256, tied=True, activation="gelu_tanh")
    biased = fields.flag("attention_bias", False)
    return decoder | {
        "attention_bias": biased,
        "output_bias": biased,
        "norm_offset": 1.0,
        "embedding_scale": decoder["hidden_size"] ** 0.5,
    }


def _gemma2(fields: Fields) -> Values:
    return _gemma(fields) | {
        "output_norms": True,
        "attention_scale": fields.positive("query_pre_attn_scalar", 256) ** -0.5,
        "attention_soft_cap": _soft_cap(fields, "attn_logit_softcapping", 50.0),
        "logit_soft_cap": _soft_cap(fields, "final_logit_softcapping", 30.0),
        "windows": _windows(fields, lambda layer: layer % 2 == 0, 4096),
    }


def _gemma3(fields: Fields) -> Values:
    fields.refuse_unless("use_bidirectional_attention", False, False)
    gemma = _gemma2(fields)
    pattern = fields.integer("sliding_window_pattern", 6)
    head_dim, length = gemma["head_dim"], gemma["max_position"]
    local = RopeConfig(fields.number("rope_local_base_freq", 10000.0), head_dim)
    if parameters(fields).has("sliding_attention"):
        local = read_rope(fields, head_dim, length, "sliding_attention")
    elif not fields.has("rope_theta"):
        gemma["rope"] = replace(gemma["rope"], theta=1e6)
    return gemma | {
        "qk_norm": True,
        "attention_soft_cap": _soft_cap(fields, "attn_logit_softcapping", 0.0),
        "logit_soft_cap": _soft_cap(fields, "final_logit_softcapping", 0.0),
        "windows": _windows(fields, lambda layer: (layer + 1) % max(1, pattern) != 0, 4096),
        "local_rope": local,
    }


def _phi3(fields: Fields) -> Values:
    return _mistral(fields) | {"fused_projections": True}


def _deepseek_v2(fields: Fields) -> Values:
    method = fields.text("topk_method", "greedy")
    if method not in ("greedy", "group_limited_greedy"):
        raise ModelConfigError(f"{fields.source}: topk_method {method!r} is not supported")
    fields.refuse_unless("scoring_func", "softmax", "softmax")
    grouped = method == "group_limited_greedy"
    return _deepseek(fields) | {
        "experts": _deepseek_experts(fields, grouped=grouped, renormalize=False)
    }


def _deepseek_v3(fields: Fields) -> Values:
    fields.refuse_unless("topk_method", "noaux_tc", "noaux_tc")
    fields.refuse_unless("scoring_func", "sigmoid", "sigmoid")
    experts = _deepseek_experts(fields, grouped=True, renormalize=True)
    return _deepseek(fields) | {
        "experts": replace(
            experts,
            sigmoid=True,
            correction_bias=True,
            group_best=min(2, experts.count // experts.groups),
        )
    }


def _deepseek(fields: Fields) -> Values:
    fields.refuse_unless("attention_bias", False, False)
    latent = LatentConfig(
        q_rank=fields.integer("q_lora_rank") if fields.has("q_lora_rank") else None,
        kv_rank=fields.integer("kv_lora_rank"),
        nope_dim=fields.integer("qk_nope_head_dim"),
        rope_dim=fields.integer("qk_rope_head_dim"),
        value_dim=fields.integer("v_head_dim"),
    )
    head_dim = latent.nope_dim + latent.rope_dim
    if latent.value_dim > head_dim:
        raise fields.wrong("v_head_dim", f"at most qk_nope_head_dim + qk_rope_head_dim, {head_dim}")
    decoder = _decoder(fields, rotated=latent.rope_dim)
    scaling, share = parameters(fields), parameters(fields).number("mscale_all_dim", 0.0)
    magnitude = yarn_magnitude(scaling.number("factor", 1.0), share) if share else 1.0
    interleaved = fields.flag("rope_interleave", True)
    return decoder | {
        "head_dim": head_dim,
        "num_kv_heads": decoder["num_heads"],
        "latent": latent,
        "attention_scale": head_dim**-0.5 * magnitude**2,
        "rope": replace(decoder["rope"], interleaved=interleaved),
    }


def _deepseek_experts(fields: Fields, *, grouped: bool, renormalize: bool) -> ExpertsConfig:
    inner = fields.integer("moe_intermediate_size")
    first, step = fields.integer("first_k_dense_replace", 0), fields.integer("moe_layer_freq", 1)
    return ExpertsConfig(
        count=fields.integer("n_routed_experts"),
        top=fields.integer("num_experts_per_tok"),
        inner=inner,
        layers=tuple(
            layer >= first and layer % max(1, step) == 0 for layer in range(_layer_count(fields))
        ),
        groups=fields.integer("n_group", 1) if grouped else 1,
        top_groups=fields.integer("topk_group", 1) if grouped else 1,
        renormalize=fields.flag("norm_topk_prob", renormalize),
        factor=fields.number("routed_scaling_factor", 1.0),
        shared=inner * fields.integer("n_shared_experts", 0),
    )


FAMILIES: dict[str, Callable[[Fields], Values]] = {
    "LlamaForCausalLM": _llama,
    "MistralForCausalLM": _mistral,
    "MixtralForCausalLM": _mixtral,
    "Qwen2ForCausalLM": _qwen2,
    "Qwen3ForCausalLM": _qwen3,
    "Qwen3MoeForCausalLM": _qwen3_moe,
    "GemmaForCausalLM": _gemma,
    "Gemma2ForCausalLM": _gemma2,
    "Gemma3ForCausalLM": _gemma3,
    "Phi3ForCausalLM": _phi3,
    "DeepseekV2ForCausalLM": _deepseek_v2,
    "DeepseekV3ForCausalLM": _deepseek_v3,
}


# What families share.


def _decoder(
    fields: Fields,
    *,
    head_dim: int | None = None,
    rotated: int | None = None,
    tied: bool = False,
    activation: str = "silu",
) -> Values:
    """The keys that all families have; the arguments are a family's defaults."""
    if activation == "silu":
        fields.refuse_unless("hidden_act", "silu", "silu")
    hidden, heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    if heads < 1:
        raise fields.wrong("num_attention_heads", "at least 1")
    head_dim = fields.integer("head_dim", head_dim or hidden // heads)
    length = fields.integer("max_position_embeddings", 2048)
    rope = read_rope(fields, rotated or head_dim, length, "full_attention")
    if rope.scaling == "yarn":
        length = max(length, int(rope.original_max_position * rope.factor))
    return {
        "hidden_size": hidden,
        "intermediate_size": fields.integer("intermediate_size"),
        "num_layers": _layer_count(fields),
        "num_heads": heads,
        "num_kv_heads": fields.integer("num_key_value_heads", heads),
        "head_dim": head_dim,
        "vocab_size": fields.integer("vocab_size"),
        "max_position": length,
        "rms_norm_eps": fields.number("rms_norm_eps", 1e-6),
        "rope": rope,
        "tie_word_embeddings": fields.flag("tie_word_embeddings", tied),
        "dtype": fields.values.get("dtype") or fields.values.get("torch_dtype"),
        "activation": activation,
    }


def _layer_count(fields: Fields) -> int:
    """Bounded here, because what each layer is gets listed before `ModelConfig` can check."""
    count = fields.integer("num_hidden_layers")
    if not 1 <= count <= MOST_LAYERS:
        raise fields.wrong("num_hidden_layers", f"1 to {MOST_LAYERS}")
    return count


def _windows(
    fields: Fields, slides: Callable[[int], bool], usual: int | None = None
) -> tuple[int, ...]:
    """The window of each layer: where `layer_types` says so, else where `slides(layer)`."""
    count = _layer_count(fields)
    window = usual
    if "sliding_window" in fields.values:
        window = fields.integer("sliding_window") if fields.has("sliding_window") else None
    kinds = fields.values.get("layer_types")
    if kinds is None:
        kinds = ["sliding_attention" if slides(i) else "full_attention" for i in range(count)]
    known = ("full_attention", "sliding_attention")
    if not isinstance(kinds, list) or any(kind not in known for kind in kinds):
        raise fields.wrong("layer_types", " or ".join(map(repr, known)) + " for each layer")
    if window is None:
        return ()
    if window < 1:
        raise fields.wrong("sliding_window", "at least 1")
    return tuple(window if kind == "sliding_attention" else 0 for kind in kinds)


def _qwen_windows(fields: Fields) -> tuple[int, ...]:
    """Qwen states a window and, beside it, whether it is used, and from which layer on."""
    if not fields.flag("use_sliding_window", False):
        kinds = fields.values.get("layer_types") or []
        if not isinstance(kinds, list):
            raise fields.wrong("layer_types", "a list of texts")
        if "sliding_attention" in kinds:
            raise fields.wrong("layer_types", "only 'full_attention' without use_sliding_window")
        return ()
    first = fields.integer("max_window_layers", 28)
    return _windows(fields, lambda layer: layer >= first)


def _soft_cap(fields: Fields, key: str, usual: float) -> float:
    """0 where the file says null."""
    if key in fields.values and not fields.has(key):
        return 0.0
    return fields.number(key, usual)
