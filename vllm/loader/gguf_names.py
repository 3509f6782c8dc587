# SPDX-License-Identifier: Apache-2.0
"""Names of tensors in GGUF files, for Hugging Face's names of the same.

Owns that translation. Must not know files.
"""

from __future__ import annotations

import re

_TOP = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
    "mlp.experts.gate_proj": "ffn_gate_exps",
    "mlp.experts.up_proj": "ffn_up_exps",
    "mlp.experts.down_proj": "ffn_down_exps",
}
# Of families with norms behind attention and MLP.
_OUTPUT_NORMS = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_LAYER_NAME = re.compile(r"model\.layers\.(\d+)\.(.+)")
_EXPERT = re.compile(r"mlp\.experts\.(\d+)\.(gate|up|down)_proj")  # files of early 2024


def gguf_name(name: str, architecture: str = "llama") -> str:
    """The GGUF name of a Hugging Face one: "model.norm.weight" is "output_norm.weight"."""
    stem, _, suffix = name.rpartition(".")
    match = _LAYER_NAME.fullmatch(stem)
    if match is None:
        return f"{_TOP.get(stem, stem)}.{suffix}"
    part = match[2]
    if expert := _EXPERT.fullmatch(part):
        own = f"ffn_{expert[2]}.{expert[1]}"
    elif architecture in ("gemma2", "gemma3") and part in _OUTPUT_NORMS:
        own = _OUTPUT_NORMS[part]
    else:
        own = _LAYER.get(part, part)
    return f"blk.{match[1]}.{own}.{suffix}"
