# SPDX-License-Identifier: Apache-2.0
"""GGUF files of every family, written as llama.cpp's converter writes them, against the Hugging
Face directories that they are made from.

Names come from the `gguf` package's own tables.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.exactness.generate import run
from tests.models import BOS, make_llama
from tests.unit.engine.drive import finish, request
from vllm.config.engine import EngineConfig
from vllm.engine.core import EngineCore
from vllm.errors import ModelError
from vllm.layers.rope import inverse_frequencies
from vllm.loader.checkpoint import open_checkpoint
from vllm.models.config import RopeConfig

PROMPT = [BOS, *((7 * i * i + 3 * i) % 250 for i in range(39))]
LONG = {
    "short_factor": [1.0 + 0.1 * i for i in range(8)],
    "long_factor": [2.0 + i for i in range(8)],
}
GEMMA = {
    "hidden_activation": "gelu_pytorch_tanh",
    "head_dim": 32,
    "query_pre_attn_scalar": 32,
    "tie_word_embeddings": True,
    "sliding_window": 9,
}

# name -> architecture of the file, config.json, further metadata
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "mixtral": (
        "llama",
        {"architectures": ["MixtralForCausalLM"], "num_local_experts": 6},
        {"expert_count": 6, "expert_used_count": 2},
    ),
    "qwen3-moe": (
        "qwen3moe",
        {
            "architectures": ["Qwen3MoeForCausalLM"],
            "head_dim": 32,
            "num_experts": 8,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 64,
            "norm_topk_prob": True,
        },
        {"expert_count": 8, "expert_used_count": 3, "expert_feed_forward_length": 64},
    ),
    "gemma2": (
        "gemma2",
        {"architectures": ["Gemma2ForCausalLM"], **GEMMA},
        {
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
            "attention.sliding_window": 9,
        },
    ),
    "gemma3": (
        "gemma3",
        {
            "architectures": ["Gemma3ForCausalLM"],
            "num_hidden_layers": 6,
            "rope_theta": 1e6,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
            **GEMMA,
        },
        {
            "attention.sliding_window": 9,
            "rope.scaling.type": "linear",
            "rope.scaling.factor": 8.0,
        },
    ),
    "phi3": (
        "phi3",
        {
            "architectures": ["Phi3ForCausalLM"],
            "original_max_position_embeddings": 64,
            "rope_scaling": {"type": "longrope", **LONG},
        },
        {"rope.scaling.original_context_length": 64, "rope.scaling.attn_factor": (4 / 3) ** 0.5},
    ),
    "yarn": (
        "qwen2",
        {
            "architectures": ["Qwen2ForCausalLM"],
            "rope_scaling": {
                "type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        },
        {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": 4.0,
            "rope.scaling.original_context_length": 64,
        },
    ),
}


def add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    kind = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    kind[type(value)](key, value)


def write(path: Path, folder: Path, name: str, kind: str = "F32") -> Path:
    """The directory as one file, matrices but the router's in format `kind`."""
    family, _, metadata = CASES[name]
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(path, family)
    common = {
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "block_count": config["num_hidden_layers"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "rope.freq_base": config["rope_theta"],
    }
    if "head_dim" in config:
        common["attention.key_length"] = config["head_dim"]
    for key, value in (common | metadata).items():
        add(writer, f"{family}.{key}", value)
    for tensor, values in converted(folder, family, config).items():
        small = values.dim() == 1 or "ffn_gate_inp" in tensor
        own = gguf.GGMLQuantizationType["F32" if small else kind]
        writer.add_tensor(tensor, gguf.quants.quantize(values.numpy(), own), raw_dtype=own)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def converted(folder: Path, family: str, config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Tensors under GGUF's names: experts stacked, Llama's heads permuted, Gemma's norms plus 1."""
    architecture = next(a for a, n in gguf.constants.MODEL_ARCH_NAMES.items() if n == family)
    names = gguf.get_tensor_name_map(architecture, config["num_hidden_layers"])
    result, experts = {}, {}
    for name, stored in load_file(folder / "model.safetensors").items():
        if match := re.fullmatch(r"(.*\.experts)\.(\d+)\.(\w+)\.weight", name):
            experts.setdefault(f"{match[1]}.{match[3]}", {})[int(match[2])] = stored
            continue
        values = stored
        if family == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = config["num_attention_heads" if "q_proj" in name else "num_key_value_heads"]
            values = stored.view(heads, 2, -1, stored.shape[-1]).transpose(1, 2).flatten(0, 2)
        elif family.startswith("gemma") and name.endswith("norm.weight"):
            values = stored + 1
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert found is not None, name
        result[found] = values.contiguous()
    for name, own in experts.items():
        found = names.get_name(name + ".weight", try_suffixes=(".weight",))
        assert found is not None, name
        result[found] = torch.stack([own[expert] for expert in range(len(own))])
    if family == "phi3":
        for side in ("long", "short"):
            result[f"rope_factors_{side}.weight"] = torch.tensor(LONG[f"{side}_factor"])
    return result


def model(folder: Path, name: str) -> Path:
    return make_llama(folder, **CASES[name][1] | {"model_type": name})


def tokens(path: Path) -> list[int]:
    engine = EngineCore(EngineConfig(str(path), dequantize=True))
    return finish(engine, [request("r", PROMPT, max_tokens=12)])["r"].tokens


@pytest.mark.parametrize("name", CASES)
def test_same_configuration(tmp_path: Path, name: str) -> None:
    folder = model(tmp_path / "hf", name)
    path = write(tmp_path / "m.gguf", folder, name)
    found, expected = (asdict(open_checkpoint(p).config) for p in (path, folder))
    for own in (found, expected):
        for key in ("architecture", "dtype", "norm_offset"):
            del own[key]
        own["rope"].pop("interleaved")
        if own["rope"]["scaling"] == "longrope":
            own["rope"].pop("factor")
        if own["experts"]:
            own["experts"].pop("names")
        if name == "yarn":
            own.pop("max_position")  # llama.cpp's converter writes the stretched one or not
    found, expected = flat(found), flat(expected)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        near = pytest.approx(value, rel=1e-6) if isinstance(value, float) else value
        assert found[key] == near, key


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves by path, so that numbers can be compared nearly."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    else:
        return {prefix: value}
    result = {}
    for key, own in items:
        result |= flat(own, f"{prefix}.{key}")
    return result


@pytest.mark.parametrize("name", CASES)
def test_same_tokens(tmp_path: Path, name: str) -> None:
    folder = model(tmp_path / "hf", name)
    assert tokens(write(tmp_path / "m.gguf", folder, name)) == tokens(folder)


PACKED = [
    (name, k) for name in ("mixtral", "qwen3-moe", "gemma2", "phi3") for k in ("Q8_0", "Q4_0")
]


def widen(folder: Path, kind: str) -> None:
    """Give a directory's matrices the values that they have in format `kind`."""
    own = gguf.GGMLQuantizationType[kind]
    tensors = load_file(folder / "model.safetensors")
    for name, values in tensors.items():
        if values.dim() > 1 and not name.endswith("gate.weight"):
            packed = gguf.quants.quantize(values.numpy(), own)
            tensors[name] = torch.from_numpy(gguf.quants.dequantize(packed, own).copy())
    save_file(tensors, folder / "model.safetensors")


@pytest.fixture(scope="module")
def of_packed_weights(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, list[Any]]:
    """Tokens and logits of the file and of the directory, in the kernels' reference form, which
    rounds no inputs.
    """
    scratch = tmp_path_factory.mktemp("packed")
    jobs = []
    for name, kind in PACKED:
        folder = model(scratch / f"{name}-{kind}", name)
        path = write(scratch / f"{name}-{kind}.gguf", folder, name, kind)
        widen(folder, kind)
        for source in (path, folder):
            asked = {"name": "r", "prompt": PROMPT, "params": {"max_tokens": 6}}
            config = {"model": str(source), "kv_cache_dtype": "float32"}
            jobs.append({"config": config, "requests": [asked], "logits": f"{source}.pt"})
    answers = run(jobs, "scalar")
    found = [
        (a["tokens"]["r"], torch.load(j["logits"])) for a, j in zip(answers, jobs, strict=True)
    ]
    return {case: found[2 * i : 2 * i + 2] for i, case in enumerate(PACKED)}


@pytest.mark.parametrize("case", PACKED, ids="-".join)
def test_packed_weights(of_packed_weights: dict[Any, list[Any]], case: tuple[str, str]) -> None:
    """Packed matrices, experts' too, are the values that the `gguf` package widens them to."""
    (tokens_found, logits_found), (tokens_expected, logits_expected) = of_packed_weights[case]
    assert tokens_found == tokens_expected
    assert (logits_found - logits_expected).abs().max() < 1e-4 * logits_expected.abs().max()


def test_experts_of_a_family_without_them_are_refused(tmp_path: Path) -> None:
    folder = model(tmp_path / "hf", "yarn")
    path = tmp_path / "m.gguf"
    CASES["yarn"][2]["expert_count"] = 4
    try:
        write(path, folder, "yarn")
    finally:
        del CASES["yarn"][2]["expert_count"]
    with pytest.raises(ModelError, match=r"m.gguf: 4 experts .* not supported for 'qwen2'"):
        open_checkpoint(path)


@pytest.mark.parametrize(
    ("name", "key", "value", "words"),
    [
        ("gemma2", "attention.key_length", 0, "gemma2.attention.key_length is 0, 1 to"),
        ("gemma3", "embedding_length", 0, "gemma3.embedding_length is 0, 1 to"),
        ("gemma3", "block_count", 1 << 31, "gemma3.block_count is 2147483648, 1 to 16384"),
        ("phi3", "attention.head_count", 0, "phi3.attention.head_count is 0, 1 to"),
        ("yarn", "rope.freq_base", 1.0, "rope theta is 1.0, yarn needs"),
        ("yarn", "rope.scaling.factor", 1e30, "rope factor is 1.0000000150474662e[+]30"),
    ],
)
def test_a_size_that_cannot_be_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, key: str, value: Any, words: str
) -> None:
    folder = model(tmp_path / "hf", name)
    monkeypatch.setitem(CASES[name][2], key, value)
    path = write(tmp_path / "m.gguf", folder, name)
    with pytest.raises(ModelError, match=rf"m.gguf: {words}"):
        open_checkpoint(path)


def test_factors_of_llama_3_in_a_tensor(tmp_path: Path) -> None:
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    folder = make_llama(tmp_path / "hf", rope_scaling=scaling, architectures=["LlamaForCausalLM"])
    rope = open_checkpoint(folder).config.rope
    plain = RopeConfig(rope.theta, rope.dim)
    factors = inverse_frequencies(plain) / inverse_frequencies(rope)
    listed = tuple(factors.tolist())
    worked_out = RopeConfig(rope.theta, rope.dim, short_factors=listed, long_factors=listed)
    torch.testing.assert_close(inverse_frequencies(worked_out, 4096), inverse_frequencies(rope))
