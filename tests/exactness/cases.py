# SPDX-License-Identifier: Apache-2.0
"""Tiny models of every family and of every scaling of rotary embedding, and the prompt they get."""

from __future__ import annotations

from typing import Any

from tests.models import BOS

SERVED = 128  # longest context
PROMPT = [BOS, *((7 * i * i + 3 * i) % 250 for i in range(59))]
TOKENS = 16
# f32 against f64: sums of at most 128 products through a few layers. Logits are up to 6.
REFERENCE_LIMIT = 1e-4

EXPERTS = {"num_experts_per_tok": 3, "moe_intermediate_size": 48}
GEMMA = {
    "hidden_activation": "gelu_pytorch_tanh",
    "head_dim": 32,
    "tie_word_embeddings": True,
    "query_pre_attn_scalar": 24,
    "sliding_window": 9,
}
DEEPSEEK = EXPERTS | {
    "num_key_value_heads": 4,
    "q_lora_rank": None,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "n_routed_experts": 8,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
    "scoring_func": "softmax",
    "topk_method": "greedy",
    "norm_topk_prob": False,
    "routed_scaling_factor": 1.0,
}
GROUPED = {"q_lora_rank": 24, "n_group": 4, "topk_group": 2, "routed_scaling_factor": 2.5}


def family(name: str, model_type: str, **values: Any) -> dict[str, Any]:
    return {"architectures": [f"{name}ForCausalLM"], "model_type": model_type} | values


def scaled(**values: Any) -> dict[str, Any]:
    return family("Llama", "llama", rope_scaling=values)


CASES: dict[str, dict[str, Any]] = {
    "rope-linear": scaled(rope_type="linear", factor=2.5),
    "rope-dynamic": scaled(rope_type="dynamic", factor=4.0) | {"max_position_embeddings": 48},
    "rope-dynamic-within": scaled(rope_type="dynamic", factor=4.0),
    "rope-llama3": scaled(
        rope_type="llama3",
        factor=8.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=64,
    ),
    "rope-yarn": scaled(type="yarn", factor=4.0, original_max_position_embeddings=64),
    "rope-partial": family("Llama", "llama", partial_rotary_factor=0.5),
    "mistral-window": family("Mistral", "mistral", sliding_window=9),
    "qwen2-window": family(
        "Qwen2", "qwen2", use_sliding_window=True, sliding_window=9, max_window_layers=1
    ),
    "mixtral": family("Mixtral", "mixtral", num_local_experts=6, num_experts_per_tok=2),
    "qwen3-moe": family(
        "Qwen3Moe",
        "qwen3_moe",
        head_dim=32,
        num_experts=8,
        norm_topk_prob=True,
        mlp_only_layers=[0],
        **EXPERTS,
    ),
    "qwen3-moe-raw-weights": family(
        "Qwen3Moe",
        "qwen3_moe",
        head_dim=32,
        num_experts=8,
        norm_topk_prob=False,
        decoder_sparse_step=2,
        **EXPERTS,
    ),
    "gemma": family("Gemma", "gemma", head_dim=32, tie_word_embeddings=True)
    | {"hidden_act": "gelu_pytorch_tanh"},
    "gemma2": family(
        "Gemma2", "gemma2", attn_logit_softcapping=2.0, final_logit_softcapping=3.0, **GEMMA
    ),
    "gemma3": family(
        "Gemma3",
        "gemma3_text",
        num_hidden_layers=4,
        sliding_window_pattern=3,
        rope_theta=1e6,
        rope_local_base_freq=10000.0,
        rope_scaling={"rope_type": "linear", "factor": 8.0},
        **GEMMA,
    ),
    "phi3": family("Phi3", "phi3", sliding_window=9),
    "phi3-long": family(
        "Phi3",
        "phi3",
        original_max_position_embeddings=32,
        rope_scaling={
            "type": "longrope",
            "short_factor": [1.0 + 0.1 * i for i in range(8)],
            "long_factor": [1.5 + 0.7 * i for i in range(8)],
        },
    ),
    "phi3-short": family(
        "Phi3",
        "phi3",
        original_max_position_embeddings=160,
        rope_scaling={
            "type": "longrope",
            "short_factor": [1.0 + 0.1 * i for i in range(8)],
            "long_factor": [1.5 + 0.7 * i for i in range(8)],
        },
    ),
    "deepseek-v2-lite": family("DeepseekV2", "deepseek_v2", **DEEPSEEK),
    "deepseek-v2": family(
        "DeepseekV2",
        "deepseek_v2",
        **DEEPSEEK | GROUPED | {"topk_method": "group_limited_greedy"},
    ),
    "deepseek-v3": family(
        "DeepseekV3",
        "deepseek_v3",
        rope_scaling={
            "type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 64,
            "mscale": 1.0,
            "mscale_all_dim": 0.7,
            "beta_fast": 32,
            "beta_slow": 1,
        },
        **DEEPSEEK
        | GROUPED
        | {"topk_method": "noaux_tc", "scoring_func": "sigmoid", "norm_topk_prob": True},
    ),
}
