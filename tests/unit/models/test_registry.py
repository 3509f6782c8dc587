# SPDX-License-Identifier: Apache-2.0
"""Every architecture that a reader takes has a class, and tensors under the names of its family."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.exactness.cases import CASES
from tests.models import TINY
from vllm.layers.linear import Target
from vllm.layers.workspace import Workspace
from vllm.loader.dummy import DummyCheckpoint
from vllm.loader.gguf_config import FAMILIES as GGUF_FAMILIES
from vllm.models.config import ModelConfigError
from vllm.models.hf_config import FAMILIES, from_hf
from vllm.models.registry import _CLASSES
from vllm.models.shapes import tensor_shapes
from vllm.models.weights import Loader


def test_readers_and_classes_know_the_same_architectures() -> None:
    assert {*FAMILIES, *GGUF_FAMILIES} == set(_CLASSES)


def test_every_architecture_is_compared_with_a_reference() -> None:
    """Llama, Qwen2 and Qwen3 without more are so in tests/unit/loader."""
    compared = {config["architectures"][0] for config in CASES.values()}
    assert compared | {"Qwen3ForCausalLM"} == set(FAMILIES)


def config(name: str, **changes: Any) -> Any:
    return from_hf(TINY | CASES[name] | changes, "test")


# As the authors' checkpoints on Hugging Face have them; the model's layer 1.
LAYER: dict[str, dict[str, tuple[int, ...]]] = {
    "mixtral": {
        "block_sparse_moe.gate.weight": (6, 64),
        "block_sparse_moe.experts.5.w1.weight": (96, 64),
        "block_sparse_moe.experts.5.w2.weight": (64, 96),
        "block_sparse_moe.experts.5.w3.weight": (96, 64),
    },
    "qwen3-moe": {
        "mlp.gate.weight": (8, 64),
        "mlp.experts.7.gate_proj.weight": (48, 64),
        "mlp.experts.7.down_proj.weight": (64, 48),
        "self_attn.q_norm.weight": (32,),
        "self_attn.o_proj.weight": (64, 128),
    },
    "gemma2": {
        "pre_feedforward_layernorm.weight": (64,),
        "post_feedforward_layernorm.weight": (64,),
    },
    "gemma3": {"self_attn.k_norm.weight": (32,), "post_feedforward_layernorm.weight": (64,)},
    "phi3": {
        "self_attn.qkv_proj.weight": (128, 64),
        "mlp.gate_up_proj.weight": (192, 64),
        "mlp.down_proj.weight": (64, 96),
    },
    "deepseek-v2-lite": {"self_attn.q_proj.weight": (96, 64)},
    "deepseek-v3": {
        "self_attn.q_a_proj.weight": (24, 64),
        "self_attn.q_a_layernorm.weight": (24,),
        "self_attn.q_b_proj.weight": (96, 24),
        "self_attn.kv_a_proj_with_mqa.weight": (40, 64),
        "self_attn.kv_a_layernorm.weight": (32,),
        "self_attn.kv_b_proj.weight": (112, 32),
        "self_attn.o_proj.weight": (64, 48),
        "mlp.gate.weight": (8, 64),
        "mlp.gate.e_score_correction_bias": (8,),
        "mlp.experts.7.up_proj.weight": (48, 64),
        "mlp.shared_experts.gate_proj.weight": (96, 64),
        "mlp.shared_experts.down_proj.weight": (64, 96),
    },
}


@pytest.mark.parametrize("name", LAYER)
def test_tensors_have_the_names_of_published_checkpoints(name: str) -> None:
    shapes = tensor_shapes(config(name))
    for tensor, shape in LAYER[name].items():
        assert shapes[f"model.layers.1.{tensor}"] == shape, tensor


def test_the_first_layers_of_deepseek_are_dense() -> None:
    shapes = tensor_shapes(config("deepseek-v3"))
    assert "model.layers.0.mlp.gate_proj.weight" in shapes
    assert "model.layers.0.mlp.gate.weight" not in shapes


def test_heads_too_wide_for_a_gpu_are_refused_by_name() -> None:
    wide = config("deepseek-v3", kv_lora_rank=1024, qk_rope_head_dim=64)
    on_cpu = Target(torch.device("cpu"))
    Loader(DummyCheckpoint(wide), on_cpu, Workspace(1, on_cpu)).attention(0)
    on_gpu = Target(torch.device("cuda"), torch.bfloat16)
    with pytest.raises(ModelConfigError, match=r"heads of 1088 .*of 24 up to 768; use --device"):
        Loader(DummyCheckpoint(wide), on_gpu, Workspace(1, on_cpu)).attention(0)
