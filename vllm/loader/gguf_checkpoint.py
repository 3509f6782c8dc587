# SPDX-License-Identifier: Apache-2.0
"""GGUF as a checkpoint: its metadata as `ModelConfig`, its tensors under Hugging Face's names.

Owns the translation of names. Must not know layers. A Llama file's q and k weights are permuted for
interleaved rotary embedding; they are left so and the configuration says it. Qwen's are not.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from vllm.loader.checkpoint import ModelLoadError
from vllm.loader.gguf_file import GGUFError, GGUFFile
from vllm.models.config import ModelConfig, ModelConfigError, RopeConfig
from vllm.quantization.weight import DENSE_DTYPES, Weight, check_supported

ARCHITECTURES = ("llama", "qwen2", "qwen3")
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
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_LAYER_NAME = re.compile(r"model\.layers\.(\d+)\.(.+)")


def gguf_name(name: str) -> str:
    """The GGUF name of a Hugging Face one: "model.norm.weight" is "output_norm.weight"."""
    stem, _, suffix = name.rpartition(".")
    if match := _LAYER_NAME.fullmatch(stem):
        return f"blk.{match[1]}.{_LAYER.get(match[2], match[2])}.{suffix}"
    return f"{_TOP.get(stem, stem)}.{suffix}"


class GGUFCheckpoint:
    """Tensors stay in the memory map; packed ones stay packed."""

    def __init__(self, path: Path) -> None:
        self.file = _open(path)
        self.config = _config(self.file)

    @staticmethod
    def read_config(path: Path) -> ModelConfig:
        return _config(_open(path))

    def has(self, name: str) -> bool:
        return gguf_name(name) in self.file.tensors

    def names(self) -> list[str]:
        return list(self.file.tensors)

    def get(self, name: str) -> Weight:
        stored = gguf_name(name)
        try:
            info = self.file.info(stored)
            raw = self.file.tensor_bytes(stored)
        except GGUFError as error:
            raise ModelLoadError(str(error)) from None
        check_supported(info.type.number, stored)
        if info.nbytes == 0:
            raise ModelLoadError(f"{self.file.path}: tensor {stored!r} has no elements")
        data = torch.frombuffer(raw, dtype=torch.uint8)
        if info.type.number in DENSE_DTYPES:
            data = data.view(DENSE_DTYPES[info.type.number]).view(info.shape)
        return Weight(data, info.type.number, info.shape, name)


def _open(path: Path) -> GGUFFile:
    try:
        return GGUFFile(path)
    except GGUFError as error:
        raise ModelLoadError(str(error)) from None


def _config(file: GGUFFile) -> ModelConfig:
    try:
        return _decoder_config(file)
    except GGUFError as error:
        raise ModelLoadError(str(error)) from None


def _decoder_config(file: GGUFFile) -> ModelConfig:
    architecture = file.require("general.architecture", str)
    if architecture not in ARCHITECTURES:
        raise ModelConfigError(
            f"{file.path}: architecture {architecture!r} is not supported; supported are "
            + ", ".join(ARCHITECTURES)
        )
    _refuse_unsupported(file, architecture)
    hidden = file.require(f"{architecture}.embedding_length", int)
    heads = file.require(f"{architecture}.attention.head_count", int)
    if heads < 1:
        raise ModelConfigError(f"{file.path}: head_count is {heads}, at least 1 is needed")
    head_dim = file.get(f"{architecture}.attention.key_length", int, hidden // heads)
    embedding = file.info("token_embd.weight")
    if len(embedding.shape) != 2:
        raise ModelConfigError(
            f"{file.path}: token_embd.weight has shape {list(embedding.shape)}, two dimensions "
            "(vocabulary, embedding) are expected"
        )
    return ModelConfig(
        architecture=architecture,
        hidden_size=hidden,
        intermediate_size=file.require(f"{architecture}.feed_forward_length", int),
        num_layers=file.require(f"{architecture}.block_count", int),
        num_heads=heads,
        num_kv_heads=file.get(f"{architecture}.attention.head_count_kv", int, heads),
        head_dim=head_dim,
        vocab_size=embedding.shape[0],
        max_position=file.require(f"{architecture}.context_length", int),
        rms_norm_eps=file.require(f"{architecture}.attention.layer_norm_rms_epsilon", float),
        rope=_rope(file, architecture, head_dim),
        tie_word_embeddings="output.weight" not in file.tensors,
        attention_bias="blk.0.attn_q.bias" in file.tensors,
        output_bias="blk.0.attn_output.bias" in file.tensors,
        qk_norm=architecture == "qwen3",
        mlp_bias="blk.0.ffn_gate.bias" in file.tensors,
    )


def _refuse_unsupported(file: GGUFFile, architecture: str) -> None:
    experts = file.get(f"{architecture}.expert_count", int, 0)
    if experts:
        raise ModelConfigError(f"{file.path}: {experts} experts (a mixture) are not supported")
    if (files := file.get("split.count", int, 1)) > 1:
        raise ModelConfigError(f"{file.path}: GGUF split into {files} files is not supported")
    if "rope_freqs.weight" in file.tensors:
        raise ModelConfigError(f"{file.path}: rope_freqs.weight (scaled rope) is not supported")


def _rope(file: GGUFFile, architecture: str, head_dim: int) -> RopeConfig:
    # A factor without a type is linear; files of before the type have their factor in scale_linear.
    old = file.get(f"{architecture}.rope.scale_linear", float, 1.0)
    factor = file.get(f"{architecture}.rope.scaling.factor", float, old)
    kind = file.get(f"{architecture}.rope.scaling.type", str, "none" if factor == 1.0 else "linear")
    if kind not in ("none", "linear"):
        raise ModelConfigError(
            f"{file.path}: rope scaling {kind!r} is not supported; none and linear are"
        )
    return RopeConfig(
        theta=file.get(f"{architecture}.rope.freq_base", float, 10000.0),
        dim=file.get(f"{architecture}.rope.dimension_count", int, head_dim),
        interleaved=architecture == "llama",
        scaling=None if kind == "none" else kind,
        factor=factor,
    )
