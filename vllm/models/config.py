# SPDX-License-Identifier: Apache-2.0
"""What a decoder of the Llama and Qwen families looks like: sizes and rotary embedding.

Owns the meaning of the numbers and their checks, from either kind of file. Must not know tensors:
importing torch here is a bug.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vllm.errors import ModelError

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")


class ModelConfigError(ModelError):
    """A model configuration that is incomplete, contradictory or unsupported; says which value."""


@dataclass(frozen=True)
class RopeConfig:
    """Rotary embedding (Su et al. 2021, RoFormer).

    `interleaved` pairs neighbours (2i, 2i+1), as GGUF stores Llama's weights; otherwise element i
    pairs with i + dim/2, as Hugging Face does. `scaling` is None, "linear" or "llama3".
    """

    theta: float = 10000.0
    dim: int = 64
    interleaved: bool = False
    scaling: str | None = None
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position: int = 8192

    def __post_init__(self) -> None:
        for name in ("theta", "factor"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ModelConfigError(f"rope {name} is {value}, a number above 0 is needed")
        if not 0 < self.low_freq_factor < self.high_freq_factor:
            raise ModelConfigError(
                f"rope low_freq_factor is {self.low_freq_factor} and high_freq_factor "
                f"{self.high_freq_factor}; the first must be above 0 and below the second"
            )


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of one model. `dtype` is the stored one of dense weights, where the file says so.

    `attention_bias` is of queries, keys and values, `output_bias` of the projection behind them;
    with `qk_norm` every head of queries and keys is normed.
    """

    architecture: str
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    max_position: int
    rms_norm_eps: float
    rope: RopeConfig
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    output_bias: bool = False
    qk_norm: bool = False
    mlp_bias: bool = False
    dtype: str | None = None

    def __post_init__(self) -> None:
        for name in (
            "hidden_size",
            "intermediate_size",
            "num_layers",
            "num_heads",
            "num_kv_heads",
            "head_dim",
            "vocab_size",
            "max_position",
        ):
            value = getattr(self, name)
            if value < 1:
                raise ModelConfigError(f"{name} is {value}, at least 1 is needed")
        if not (math.isfinite(self.rms_norm_eps) and self.rms_norm_eps >= 0):
            raise ModelConfigError(f"rms_norm_eps is {self.rms_norm_eps}, at least 0 is needed")
        if self.num_heads % self.num_kv_heads:
            raise ModelConfigError(
                f"num_heads ({self.num_heads}) is not a multiple of num_kv_heads "
                f"({self.num_kv_heads})"
            )
        if self.rope.dim % 2 or not 0 < self.rope.dim <= self.head_dim:
            raise ModelConfigError(
                f"the rotary dimension is {self.rope.dim}; it must be even and at most the head "
                f"size {self.head_dim}"
            )


def from_hf(config: Mapping[str, Any], source: str) -> ModelConfig:
    """The configuration in a Hugging Face `config.json`. `source` names it in errors."""
    architecture = _architecture(config.get("architectures"))
    if architecture not in ARCHITECTURES:
        raise ModelConfigError(
            f"{source}: architecture {architecture!r} is not supported; supported are "
            + ", ".join(ARCHITECTURES)
        )
    _refuse_unsupported(config, source)
    reader = _Fields(config, source)
    hidden, heads = reader.integer("hidden_size"), reader.integer("num_attention_heads")
    if heads < 1:
        raise ModelConfigError(f"{source}: num_attention_heads is {heads}, at least 1 is needed")
    usual = 128 if architecture == "Qwen3ForCausalLM" else hidden // heads
    head_dim = reader.integer("head_dim", usual)
    biased = bool(config.get("attention_bias", False))
    max_position = reader.integer("max_position_embeddings", 2048)
    return ModelConfig(
        architecture=architecture,
        hidden_size=hidden,
        intermediate_size=reader.integer("intermediate_size"),
        num_layers=reader.integer("num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=reader.integer("num_key_value_heads", heads),
        head_dim=head_dim,
        vocab_size=reader.integer("vocab_size"),
        max_position=max_position,
        rms_norm_eps=reader.number("rms_norm_eps", 1e-6),
        rope=_hf_rope(config, head_dim, max_position, source),
        tie_word_embeddings=bool(config.get("tie_word_embeddings", False)),
        attention_bias=biased or architecture == "Qwen2ForCausalLM",
        output_bias=biased and architecture != "Qwen2ForCausalLM",
        qk_norm=architecture == "Qwen3ForCausalLM",
        mlp_bias=bool(config.get("mlp_bias", False)),
        dtype=config.get("dtype") or config.get("torch_dtype"),
    )


def _architecture(names: Any) -> Any:
    return names[0] if isinstance(names, list) and names else names


def _refuse_unsupported(config: Mapping[str, Any], source: str) -> None:
    if (activation := config.get("hidden_act", "silu")) != "silu":
        raise ModelConfigError(f"{source}: hidden_act {activation!r} is not supported, only 'silu'")
    if (quantization := config.get("quantization_config")) is not None:
        method = quantization.get("quant_method") if isinstance(quantization, dict) else "?"
        raise ModelConfigError(
            f"{source}: quantization_config with quant_method {method!r} is not supported; "
            "use an unquantized checkpoint or a GGUF file"
        )
    # Qwen states a window and, beside it, whether it is used.
    if config.get("sliding_window") is not None and config.get("use_sliding_window", True):
        raise ModelConfigError(
            f"{source}: sliding_window {config['sliding_window']!r} is not supported"
        )
    kinds = config.get("layer_types")
    if kinds is not None and set(kinds) != {"full_attention"}:
        raise ModelConfigError(
            f"{source}: layer_types {sorted(map(str, set(kinds)))} are not supported, only "
            "'full_attention'"
        )


def _hf_rope(config: Mapping[str, Any], head_dim: int, length: int, source: str) -> RopeConfig:
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(scaling, Mapping):
        raise ModelConfigError(f"{source}: rope_scaling is {scaling!r}, an object is expected")
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind not in ("default", "linear", "llama3"):
        raise ModelConfigError(
            f"{source}: rope type {kind!r} is not supported; default, linear and llama3 are"
        )
    fields, top = _Fields(scaling, f"{source}: rope parameters"), _Fields(config, source)
    rotated = fields.number("partial_rotary_factor", top.number("partial_rotary_factor", 1.0))
    return RopeConfig(
        theta=fields.number("rope_theta", top.number("rope_theta", 10000.0)),
        dim=int(head_dim * rotated),
        scaling=None if kind == "default" else kind,
        factor=fields.number("factor", 1.0) if kind == "default" else fields.number("factor"),
        low_freq_factor=fields.number("low_freq_factor", RopeConfig.low_freq_factor),
        high_freq_factor=fields.number("high_freq_factor", RopeConfig.high_freq_factor),
        original_max_position=fields.integer("original_max_position_embeddings", length),
    )


class _Fields:
    """Typed access to a JSON object with errors that name the file and the key."""

    def __init__(self, values: Mapping[str, Any], source: str) -> None:
        self.values, self.source = values, source

    def number(self, key: str, default: float | None = None) -> float:
        value = self.values.get(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ModelConfigError(f"{self.source}: {key} is {value!r}, a number is expected")
        return float(value)

    def integer(self, key: str, default: int | None = None) -> int:
        value = self.number(key, default)
        if not value.is_integer():
            raise ModelConfigError(f"{self.source}: {key} is {value!r}, an integer is expected")
        return int(value)
