# SPDX-License-Identifier: Apache-2.0
"""GGUF metadata as a `ModelConfig`: one function for each family.

Owns the keys, and what llama.cpp knows of a family without a key. Must not know layers, nor import
torch: the supervisor reads it. A Llama file's q and k weights are permuted for interleaved rotary
embedding; they are left so and the configuration says it. Other families' are not. Gemma's norms
have their one added already.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from vllm.loader.gguf_file import GGUFFile
from vllm.models.config import MOST_LAYERS, ExpertsConfig, ModelConfig, ModelConfigError, RopeConfig

Values = dict[str, Any]  # keyword arguments of ModelConfig
_GEMMA2_27B_LAYERS, _GEMMA3_27B_LAYERS = 46, 62


class Metadata:
    """The keys of one file below its architecture's name."""

    def __init__(self, file: GGUFFile) -> None:
        self.file = file
        self.architecture: str = file.require("general.architecture", str)

    def require(self, key: str, kind: type) -> Any:
        return self.file.require(f"{self.architecture}.{key}", kind)

    def get(self, key: str, kind: type, default: Any) -> Any:
        return self.file.get(f"{self.architecture}.{key}", kind, default)

    def size(self, key: str, default: int | None = None, most: int = 1 << 53) -> int:
        """An integer of 1 to `most`."""
        value = self.require(key, int) if default is None else self.get(key, int, default)
        if not 1 <= value <= most:
            raise ModelConfigError(
                f"{self.file.path}: {self.architecture}.{key} is {value}, 1 to {most} is needed"
            )
        return int(value)

    def factors(self, name: str) -> tuple[float, ...]:
        """A small tensor of f32, empty where it is absent."""
        if name not in self.file.tensors:
            return ()
        if self.file.info(name).type.name != "F32":
            raise ModelConfigError(f"{self.file.path}: {name} is not F32")
        return tuple(self.file.tensor_bytes(name).cast("f").tolist())


def read_config(file: GGUFFile) -> ModelConfig:
    """The configuration of a file. Raises `ModelConfigError` that names file, key and value."""
    metadata = Metadata(file)
    family = FAMILIES.get(metadata.architecture)
    if family is None:
        raise ModelConfigError(
            f"{file.path}: architecture {metadata.architecture!r} is not supported; supported are "
            + ", ".join(FAMILIES)
        )
    if (files := file.get("split.count", int, 1)) > 1:
        raise ModelConfigError(f"{file.path}: GGUF split into {files} files is not supported")
    try:
        return ModelConfig(architecture=metadata.architecture, **family(metadata))
    except ModelConfigError as error:
        if str(file.path) in str(error):
            raise
        raise ModelConfigError(f"{file.path}: {error}") from None
    except (ArithmeticError, TypeError) as error:  # a value that no check above knows of
        raise ModelConfigError(
            f"{file.path}: the model cannot be computed with these values: {error.args[-1]}"
        ) from None


def _llama(metadata: Metadata) -> Values:
    values = _decoder(metadata, interleaved=True)
    return values | _experts(metadata, values["intermediate_size"])


def _qwen2(metadata: Metadata) -> Values:
    return _decoder(metadata) | _experts(metadata, None)


def _qwen3(metadata: Metadata) -> Values:
    return _decoder(metadata) | {"qk_norm": True} | _experts(metadata, None)


def _qwen3_moe(metadata: Metadata) -> Values:
    inner = metadata.require("expert_feed_forward_length", int)
    values = _decoder(metadata, inner=inner)
    return values | {"qk_norm": True} | _experts(metadata, inner)


def _gemma2(metadata: Metadata) -> Values:
    values = _gemma(metadata, _GEMMA2_27B_LAYERS)
    return values | {
        "attention_soft_cap": metadata.get("attn_logit_softcapping", float, 50.0),
        "logit_soft_cap": metadata.get("final_logit_softcapping", float, 30.0),
        "windows": _windows(metadata, values["num_layers"], 2, 4096),
    }


def _gemma3(metadata: Metadata) -> Values:
    values = _gemma(metadata, _GEMMA3_27B_LAYERS)
    theta = metadata.get("rope.freq_base_swa", float, 10000.0)
    return values | {
        "qk_norm": True,
        "logit_soft_cap": metadata.get("final_logit_softcapping", float, 0.0),
        "windows": _windows(metadata, values["num_layers"], 6, 1024),
        "local_rope": RopeConfig(theta, values["rope"].dim),
    }


def _phi3(metadata: Metadata) -> Values:
    values = _decoder(metadata)
    return values | {
        "fused_projections": True,
        "windows": _windows(metadata, values["num_layers"], 0, 0),
    }


FAMILIES: dict[str, Callable[[Metadata], Values]] = {
    "llama": _llama,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "qwen3moe": _qwen3_moe,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    "phi3": _phi3,
}


def _decoder(metadata: Metadata, *, inner: int | None = None, interleaved: bool = False) -> Values:
    """The keys that all families have. `inner`: the MLP's size where the file may not say it."""
    file = metadata.file
    hidden = metadata.size("embedding_length")
    heads = metadata.size("attention.head_count")
    head_dim = metadata.size("attention.key_length", hidden // heads)
    embedding = file.info("token_embd.weight")
    if len(embedding.shape) != 2:
        raise ModelConfigError(
            f"{file.path}: token_embd.weight has shape {list(embedding.shape)}, two dimensions "
            "(vocabulary, embedding) are expected"
        )
    usual = metadata.require("feed_forward_length", int) if inner is None else inner
    return {
        "hidden_size": hidden,
        "intermediate_size": metadata.get("feed_forward_length", int, usual) or usual,
        "num_layers": metadata.size("block_count", most=MOST_LAYERS),
        "num_heads": heads,
        "num_kv_heads": metadata.get("attention.head_count_kv", int, heads),
        "head_dim": head_dim,
        "vocab_size": embedding.shape[0],
        "max_position": metadata.require("context_length", int),
        "rms_norm_eps": metadata.require("attention.layer_norm_rms_epsilon", float),
        "rope": _rope(metadata, head_dim, interleaved),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "attention_bias": "blk.0.attn_q.bias" in file.tensors,
        "output_bias": "blk.0.attn_output.bias" in file.tensors,
        "mlp_bias": "blk.0.ffn_gate.bias" in file.tensors,
    }


def _experts(metadata: Metadata, inner: int | None) -> Values:
    """`inner`: size of an expert; None: the family has none."""
    count = metadata.get("expert_count", int, 0)
    if count == 0:
        return {}
    if inner is None:
        raise ModelConfigError(
            f"{metadata.file.path}: {count} experts (a mixture) are not supported for "
            f"{metadata.architecture!r}"
        )
    layers = metadata.size("block_count", most=MOST_LAYERS)
    top = metadata.require("expert_used_count", int)
    return {"experts": ExpertsConfig(count, top, inner, (True,) * layers)}


def _gemma(metadata: Metadata, layers_of_27b: int) -> Values:
    """The largest model of each generation scales by its embedding's share of a head; no key says
    so.
    """
    values = _decoder(metadata)
    hidden, heads = values["hidden_size"], values["num_heads"]
    large = values["num_layers"] == layers_of_27b
    return values | {
        "activation": "gelu_tanh",
        "embedding_scale": hidden**0.5,
        "output_norms": True,
        "attention_scale": (hidden / heads if large else values["head_dim"]) ** -0.5,
    }


def _windows(metadata: Metadata, layers: int, pattern: int, usual: int) -> tuple[int, ...]:
    """All layers but every `pattern`-th have a window; all of them where `pattern` is 0."""
    window = metadata.get("attention.sliding_window", int, usual)
    if window == 0:
        return ()
    return tuple(0 if pattern and (layer + 1) % pattern == 0 else window for layer in range(layers))


def _rope(metadata: Metadata, head_dim: int, interleaved: bool) -> RopeConfig:
    # A factor without a type is linear; files of before the type have their factor in scale_linear.
    old = metadata.get("rope.scale_linear", float, 1.0)
    factor = metadata.get("rope.scaling.factor", float, old)
    usual = "none" if factor == 1.0 else "linear"
    kind = metadata.get("rope.scaling.type", str, usual)
    length = metadata.require("context_length", int)
    values: Values = {
        "theta": metadata.get("rope.freq_base", float, 10000.0),
        "dim": metadata.get("rope.dimension_count", int, head_dim),
        "interleaved": interleaved,
        "scaling": None if kind == "none" else kind,
        "factor": factor,
        "original_max_position": metadata.get("rope.scaling.original_context_length", int, length),
    }
    if long := metadata.factors("rope_factors_long.weight"):
        values |= {"scaling": "longrope", "long_factors": long}
        values["short_factors"] = metadata.factors("rope_factors_short.weight")
        values["attention_factor"] = metadata.get("rope.scaling.attn_factor", float, 1.0)
    elif kind not in ("none", "linear", "yarn"):
        raise ModelConfigError(
            f"{metadata.file.path}: rope scaling {kind!r} is not supported; none, linear and yarn "
            "are, and factors in tensors"
        )
    elif kind == "yarn":
        values["attention_factor"] = _yarn_magnitude(metadata, factor)
    if fixed := metadata.factors("rope_freqs.weight"):  # Llama 3's rule, worked out
        values |= {"short_factors": fixed, "long_factors": fixed}
    return RopeConfig(**values)


def _yarn_magnitude(metadata: Metadata, factor: float) -> float:
    share = metadata.get("rope.scaling.attn_factor", float, 1.0)
    return share * (1.0 + 0.1 * math.log(max(1.0, factor)))
