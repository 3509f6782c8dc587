# SPDX-License-Identifier: Apache-2.0
"""Model directories and GGUF files as checkpoints, and everything that can be wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from tests.exactness.compare import relative_rms, rounding_tolerance
from tests.exactness.reference import Reference, bfloat16
from tests.models import BOS, TINY, add_sizes, make_llama, random_tensors, write_weights
from tests.unit.engine.drive import finish, request
from vllm.config.engine import EngineConfig
from vllm.engine.core import EngineCore
from vllm.errors import EngineStartError, ModelError
from vllm.layers.rope import inverse_frequencies
from vllm.loader.checkpoint import open_checkpoint
from vllm.loader.gguf_names import gguf_name
from vllm.models.config import RopeConfig
from vllm.models.hf_config import from_hf
from vllm.models.shapes import tensor_shapes

PROMPT = [BOS, 1, 2, 3]


def start(path: Path, **config: Any) -> EngineCore:
    return EngineCore(EngineConfig(str(path), **config))


def tokens(path: Path, **config: Any) -> list[int]:
    return finish(start(path, **config), [request("r", PROMPT, max_tokens=12)])["r"].tokens


def write_gguf(
    path: Path, folder: Path, quantization: gguf.GGMLQuantizationType, **metadata: float | str
) -> Path:
    """The directory's weights as llama.cpp's converter would write them, matrices quantized.

    `metadata`: further keys below the architecture's, with two underscores for a dot.
    """
    config = json.loads((folder / "config.json").read_text())
    family = config["model_type"]
    writer = gguf.GGUFWriter(path, family)
    add_sizes(writer, config)
    if "head_dim" in config:
        writer.add_key_length(config["head_dim"])
    for key, value in metadata.items():
        add = writer.add_string if isinstance(value, str) else writer.add_float32
        add(f"{family}." + key.replace("__", "."), value)
    for name, tensor in random_tensors(config, 0).items():
        values = tensor.float()
        if family == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = config["num_attention_heads" if "q_proj" in name else "num_key_value_heads"]
            values = values.view(heads, 2, -1, values.shape[-1]).transpose(1, 2).flatten(0, 2)
        kind = gguf.GGMLQuantizationType.F32 if values.dim() == 1 else quantization
        packed = gguf.quants.quantize(values.contiguous().numpy(), kind)
        writer.add_tensor(gguf_name(name), packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_one_file_and_shards_are_the_same(tmp_path: Path) -> None:
    one = make_llama(tmp_path / "one")
    many = make_llama(tmp_path / "many", shards=3)
    assert tokens(one) == tokens(many)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_weights_stay_as_stored(tmp_path: Path, dtype: str) -> None:
    folder = make_llama(tmp_path, torch_dtype=dtype)
    engine = start(folder, kv_cache_dtype="float32")
    assert engine.runner.model.layers[0].attention.qkv.weight.dtype is getattr(torch, dtype)
    expected = Reference.from_directory(folder).greedy(PROMPT, 12)
    assert tokens(folder, kv_cache_dtype="float32") == expected


def test_tied_and_biased_models(tmp_path: Path) -> None:
    folder = make_llama(tmp_path, tie_word_embeddings=True, attention_bias=True)
    expected = Reference.from_directory(folder).greedy(PROMPT, 12)
    assert tokens(folder, dequantize=True) == expected


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_gguf_types(tmp_path: Path, kind: str) -> None:
    folder = make_llama(tmp_path / "hf")
    path = write_gguf(tmp_path / "m.gguf", folder, gguf.GGMLQuantizationType[kind])
    expected = Reference.from_gguf(path).greedy(PROMPT, 12)
    assert tokens(path, dequantize=True) == expected
    packed = start(path).runner.model.layers[0].attention.qkv
    assert hasattr(packed, "packed") == (kind[0] == "Q")


QWEN: list[dict[str, Any]] = [
    {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"},
    {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "tie_word_embeddings": True},
    {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 32},
]


def all_logprobs(core: EngineCore, prompt: list[int]) -> torch.Tensor:
    """f32 [len(prompt) - 1, vocab]: of every token after every prefix of the prompt."""
    asked = request("r", prompt, prompt_logprobs=-1, max_tokens=1)
    tensors = finish(core, [asked])["r"].outputs[0].new_prompt_logprobs_tensors
    ids = torch.from_numpy(tensors.token_ids.numpy()[:, 1:].copy())
    logprobs = torch.from_numpy(tensors.logprobs.numpy()[:, 1:].copy())
    return torch.empty_like(logprobs).scatter_(1, ids, logprobs)


@pytest.mark.parametrize("config", QWEN, ids=["qwen2", "qwen2-tied", "qwen3"])
@pytest.mark.parametrize("shards", [1, 3])
def test_qwen_equals_the_reference(tmp_path: Path, config: dict[str, Any], shards: int) -> None:
    whole = make_llama(tmp_path / "whole", rope_theta=1e6, **config)
    folder = make_llama(tmp_path / "model", shards=shards, rope_theta=1e6, **config)
    reference = Reference.from_directory(whole)
    own = {name.removeprefix("model.layers.0.self_attn.") for name in reference.weights}
    assert ("q_proj.bias" in own, "o_proj.bias" in own, "q_norm.weight" in own) == (
        config["model_type"] == "qwen2",
        False,
        config["model_type"] == "qwen3",
    )
    prompt = [BOS, *range(3, 90)]
    exact = start(folder, dequantize=True, max_logprobs=-1)
    true = reference.logits(prompt)[:-1].log_softmax(-1)
    assert (all_logprobs(exact, prompt) - true).abs().max() < 2e-5
    assert finish(exact, [request("r", prompt, max_tokens=30)])["r"].tokens == reference.greedy(
        prompt, 30
    )
    fast = start(folder, max_logprobs=-1)
    rounded = reference.with_rounding(cache=bfloat16).logits(prompt)[:-1].log_softmax(-1)
    assert relative_rms(all_logprobs(fast, prompt), true) < rounding_tolerance(rounded, true)


@pytest.mark.parametrize("config", QWEN, ids=["qwen2", "qwen2-tied", "qwen3"])
@pytest.mark.parametrize("kind", ["F32", "Q8_0", "Q4_0"])
def test_qwen_from_gguf(tmp_path: Path, config: dict[str, Any], kind: str) -> None:
    folder = make_llama(tmp_path / "hf", **config)
    path = write_gguf(tmp_path / "m.gguf", folder, gguf.GGMLQuantizationType[kind])
    expected = Reference.from_gguf(path)
    assert tokens(path, dequantize=True) == expected.greedy(PROMPT, 12)
    if kind == "F32":
        assert tokens(path, dequantize=True) == tokens(folder, dequantize=True)


def test_a_window_that_is_not_used_is_no_window(tmp_path: Path) -> None:
    off = {"sliding_window": 64, "use_sliding_window": False}
    assert tokens(make_llama(tmp_path, **QWEN[0], **off), dequantize=True)
    config = TINY | QWEN[0] | off
    assert from_hf(config, "test").windows == ()
    kinds = ["full_attention", "sliding_attention"]
    used = from_hf(config | {"use_sliding_window": True, "layer_types": kinds}, "test")
    assert used.windows == (0, 64)
    with pytest.raises(ModelError, match=r"test: layer_types .*sliding_att.* without use_sliding"):
        from_hf(config | {"layer_types": kinds}, "test")


def test_gguf_and_directory_are_the_same_model(tmp_path: Path) -> None:
    folder = make_llama(tmp_path / "hf")
    path = write_gguf(tmp_path / "m.gguf", folder, gguf.GGMLQuantizationType.F32)
    assert tokens(path, dequantize=True) == tokens(folder, dequantize=True)


@pytest.mark.parametrize(
    ("metadata", "scaling", "factor"),
    [
        ({}, None, 1.0),
        ({"rope__scaling__type": "none", "rope__scaling__factor": 4.0}, None, 4.0),
        ({"rope__scaling__type": "linear", "rope__scaling__factor": 4.0}, "linear", 4.0),
        ({"rope__scaling__factor": 4.0}, "linear", 4.0),
        ({"rope__scale_linear": 4.0}, "linear", 4.0),
    ],
)
def test_gguf_rope_scaling(
    tmp_path: Path, metadata: dict[str, Any], scaling: str | None, factor: float
) -> None:
    """A factor is never dropped because its type is not stated, as in older files."""
    folder = make_llama(tmp_path / "hf")
    path = write_gguf(tmp_path / "m.gguf", folder, gguf.GGMLQuantizationType.F32, **metadata)
    rope = open_checkpoint(path).config.rope
    assert (rope.scaling, rope.factor) == (scaling, factor)


@pytest.mark.parametrize("kind", ["linear", "llama3"])
def test_scaled_rope_gives_other_tokens(tmp_path: Path, kind: str) -> None:
    scaling = {"rope_type": kind, "factor": 8.0, "original_max_position_embeddings": 32}
    plain = make_llama(tmp_path / "plain")
    scaled = make_llama(tmp_path / "scaled", rope_scaling=scaling)
    assert tokens(plain, dequantize=True) != tokens(scaled, dequantize=True)


def test_gguf_embedding_must_be_a_matrix(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_embedding_length(64)
    writer.add_head_count(4)
    writer.add_tensor("token_embd.weight", np.ones(64, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelError, match=r"token_embd.weight has shape \[64\]"):
        open_checkpoint(path)


def test_unsupported_gguf_type_is_named(tmp_path: Path) -> None:
    folder = make_llama(tmp_path / "hf")
    path = write_gguf(tmp_path / "m.gguf", folder, gguf.GGMLQuantizationType.MXFP4)
    known = "Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K"
    with pytest.raises(ModelError, match=rf"'token_embd.weight' has type MXFP4.*{known}"):
        start(path)


def test_cut_gguf_is_one_line(tmp_path: Path) -> None:
    folder = make_llama(tmp_path / "hf")
    path = write_gguf(tmp_path / "m.gguf", folder, gguf.GGMLQuantizationType.Q8_0)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="truncated or corrupt"):
        start(path)


GEMMA2 = {
    "architectures": ["Gemma2ForCausalLM"],
    "hidden_activation": "gelu_pytorch_tanh",
}


def compressed(**weights: Any) -> dict[str, Any]:
    groups = {
        "group_0": {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "float"} | weights}
    }
    return {"quant_method": "compressed-tensors", "config_groups": groups}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["MambaForCausalLM"]}, "'MambaForCausalLM' is not supported"),
        ({"architectures": ["BertModel"]}, "BertModel is an encoder, which is not served; LLM.emb"),
        ({"architectures": 1}, "architecture 1 is not supported"),
        ({"rope_theta": "x"}, "rope_theta is 'x'"),
        ({"rope_theta": 0.0}, "rope theta is 0.0"),
        ({"rope_scaling": 5}, "rope_scaling is 5, an object"),
        ({"rope_scaling": {"type": "linear", "factor": 0}}, "rope factor is 0.0"),
        (
            {"rope_scaling": {"type": "llama3", "factor": 2, "low_freq_factor": 4}},
            "low_freq_factor",
        ),
        ({"partial_rotary_factor": 3}, "partial_rotary_factor is 3, a number above 0, at most 1"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps is nan"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"quantization_config": {"quant_method": "awq"}}, "quant_method 'awq'"),
        ({"quantization_config": 8}, "quantization_config is 8, an object"),
        (
            {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}},
            r"weight_block_size \[128, 128\] is not supported",
        ),
        ({"quantization_config": {"quant_method": "fp8", "fmt": "e5m2"}}, "with fmt 'e5m2'"),
        ({"quantization_config": compressed(num_bits=4)}, "weights with num_bits 4"),
        ({"quantization_config": compressed(type="int")}, "weights with type 'int'"),
        ({"quantization_config": compressed(strategy="group")}, "with strategy 'group'"),
        (
            {"quantization_config": compressed() | {"format": "pack-quantized"}},
            "with format 'pack-quantized'",
        ),
        ({"sliding_window": 64}, "sliding_window 64"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "rope_scaling: factor is None"),
        ({"rope_scaling": {"rope_type": "magic"}}, "rope type 'magic' is not supported; default,"),
        ({"rope_scaling": {"mrope_section": [1, 2]}}, r"mrope_section \[1, 2\] .* not supported"),
        ({"rope_scaling": {"type": "su", "short_factor": [1.0]}}, "long_factor is None, a list"),
        (
            {"rope_scaling": {"type": "su", "short_factor": [1.0], "long_factor": [1.0]}},
            "config.json: rope short_factors has 1 numbers, 8 are needed",
        ),
        ({"architectures": ["MistralForCausalLM"], "sliding_window": 0}, "sliding_window is 0, at"),
        ({"architectures": ["MistralForCausalLM"], "sliding_window": "x"}, "sliding_window is 'x'"),
        (
            GEMMA2 | {"layer_types": ["chunked_attention"]},
            "layer_types is .'chunked_attention'., 'full_attention' or 'sliding_attention'",
        ),
        (
            GEMMA2 | {"hidden_activation": "relu"},
            "hidden_activation 'relu'",
        ),
        (
            GEMMA2 | {"layer_types": ["full_attention"]},
            "config.json: windows are given for 1 layers, the model has 2",
        ),
        (
            {"architectures": ["MixtralForCausalLM"], "num_experts_per_tok": 9},
            "config.json: 9 of 8 experts are to be chosen",
        ),
        ({"architectures": ["MixtralForCausalLM"], "num_local_experts": 0}, "count is 0, at least"),
        ({"architectures": ["DeepseekV3ForCausalLM"]}, "moe_intermediate_size is None, a number"),
        (
            {"architectures": ["DeepseekV2ForCausalLM"], "topk_method": "noaux_tc"},
            "topk_method 'noaux_tc' is not supported",
        ),
        ({"hidden_size": "x"}, "hidden_size is 'x'"),
        ({"hidden_size": None}, "hidden_size is None"),
        ({"num_hidden_layers": 0}, "config.json: num_hidden_layers is 0"),
        ({"num_key_value_heads": 3}, "not a multiple of num_kv_heads"),
        ({"intermediate_size": 100}, "has shape .96, 64., the configuration says .100, 64."),
        ({"num_hidden_layers": 3}, "tensor 'model.layers.2.input_layernorm.weight' is missing"),
    ],
)
def test_bad_configurations_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    folder = make_llama(tmp_path)
    (folder / "config.json").write_text(json.dumps(TINY | change))
    with pytest.raises(ModelError, match=message):
        start(folder)


def test_bias_that_the_configuration_does_not_know(tmp_path: Path) -> None:
    folder = make_llama(tmp_path)
    tensors = random_tensors(TINY | {"attention_bias": True}, 0)
    write_weights(folder, tensors)
    with pytest.raises(ModelError, match=r"q_proj.bias' is there, but the configuration"):
        start(folder)


@pytest.mark.parametrize("victim", ["config.json", "model.safetensors"])
def test_missing_and_damaged_files(tmp_path: Path, victim: str) -> None:
    folder = make_llama(tmp_path)
    content = (folder / victim).read_bytes()
    (folder / victim).write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=victim):
        start(folder)
    (folder / victim).unlink()
    with pytest.raises(ModelError, match=str(folder)):
        start(folder)


def test_index_must_name_files_beside_it(tmp_path: Path) -> None:
    folder = make_llama(tmp_path, shards=2)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"model.norm.weight": "../../etc/passwd"}}))
    with pytest.raises(ModelError, match="weight_map must map names to file names"):
        start(folder)


def test_missing_path(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model file or directory"):
        start(tmp_path / "nothing")


def test_dummy_weights_need_no_file(tmp_path: Path) -> None:
    folder = make_llama(tmp_path)
    (folder / "model.safetensors").unlink()
    assert len(tokens(folder, load_format="dummy")) == 12
    checkpoint = open_checkpoint(folder, "dummy")
    assert set(checkpoint.names()) == set(tensor_shapes(checkpoint.config))
    assert checkpoint.nbytes == sum(checkpoint.get(name).data.nbytes for name in checkpoint.names())


@pytest.mark.parametrize("kind", ["one file", "shards", "Q8_0"])
def test_how_large_a_model_is(tmp_path: Path, kind: str) -> None:
    folder = make_llama(tmp_path, shards=3 if kind == "shards" else 1)
    checkpoint = open_checkpoint(folder)
    tensors = sum(checkpoint.get(name).data.nbytes for name in checkpoint.names())
    if kind == "Q8_0":
        packed = gguf.GGMLQuantizationType.Q8_0
        checkpoint = open_checkpoint(write_gguf(tmp_path / "model.gguf", folder, packed))
        tensors = tensors * 34 // 32 // 4  # but for the norms
    assert tensors <= checkpoint.nbytes < 1.1 * tensors


def test_kv_cache_must_hold_one_request(tmp_path: Path) -> None:
    folder = make_llama(tmp_path)
    with pytest.raises(EngineStartError, match="one request of 256 tokens does not fit"):
        start(folder, max_model_len=256, kv_cache_memory=4096)
    with pytest.raises(EngineStartError, match="max_model_len is 512, but the model has 256"):
        start(folder, max_model_len=512)
    small = start(folder, kv_cache_memory=32 * 1024)
    assert small.limits.max_model_len == small.runner.layout.num_tokens < 256


def test_llama3_rope_scaling() -> None:
    """Against the rule as Llama 3.1's release states it, wavelength by wavelength."""
    rope = RopeConfig(500000.0, 128, False, "llama3", 8.0, 1.0, 4.0, 8192)
    plain = 500000.0 ** -(np.arange(0, 128, 2) / 128)
    expected = []
    for frequency in plain:
        wavelength = 2 * np.pi / frequency
        if wavelength < 8192 / 4.0:
            expected.append(frequency)
        elif wavelength > 8192 / 1.0:
            expected.append(frequency / 8.0)
        else:
            smooth = (8192 / wavelength - 1.0) / (4.0 - 1.0)
            expected.append((1 - smooth) * frequency / 8.0 + smooth * frequency)
    np.testing.assert_allclose(inverse_frequencies(rope), expected, rtol=1e-12)


def test_rope_parameters_of_newer_configs() -> None:
    new = from_hf(TINY | {"rope_parameters": {"rope_type": "linear", "factor": 2.0}}, "c")
    assert (new.rope.scaling, new.rope.factor, new.rope.theta) == ("linear", 2.0, 10000.0)
