# SPDX-License-Identifier: Apache-2.0
"""BERT encoders against a float64 forward pass: all-MiniLM-L6-v2, and tiny random ones."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.exactness import minilm
from tests.models import BOS, write_tokenizer
from vllm import LLM
from vllm.config.engine import EngineConfig
from vllm.errors import EngineStartError, ModelError, ValidationError
from vllm.worker.encoder_runner import NOT_USED

TEXTS = (
    "The weather is lovely today.",
    "It's so sunny outside!",
    "He drove to the stadium.",
    "",
    "A considerably longer sentence, which takes more tokens than all the others do: " * 5,
)
# What sentence-transformers' own documentation prints for the first three.
KNOWN = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
# f32 against f64 on vectors of length 1: sums of up to 1,536 products through six layers.
LIMIT = 2e-6


def embedding(folder: Path, ids: list[int]) -> Tensor:
    """f64 [hidden]: one text alone, spelled out from the paper, sharing no code with the model."""
    config = json.loads((folder / "config.json").read_text())
    weights = {k: v.double() for k, v in load_file(folder / "model.safetensors").items()}

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ weights[name + ".weight"].T + weights[name + ".bias"]

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        variance = centred.pow(2).mean(-1, keepdim=True)
        scaled = centred / (variance + config["layer_norm_eps"]).sqrt()
        return scaled * weights[name + ".weight"] + weights[name + ".bias"]

    def gelu(x: Tensor) -> Tensor:
        return x * (1 + torch.erf(x / 2**0.5)) / 2

    x = weights["embeddings.word_embeddings.weight"][torch.tensor(ids)]
    x = x + weights["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    heads = config["num_attention_heads"]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"encoder.layer.{layer}."
        q, k, v = (
            linear(x, f"{prefix}attention.self.{name}").view(len(ids), heads, -1).transpose(0, 1)
            for name in ("query", "key", "value")
        )
        scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
        mixed = (scores.softmax(-1) @ v).transpose(0, 1).flatten(1)
        x = norm(
            x + linear(mixed, prefix + "attention.output.dense"),
            prefix + "attention.output.LayerNorm",
        )
        inner = gelu(linear(x, prefix + "intermediate.dense"))
        x = norm(x + linear(inner, prefix + "output.dense"), prefix + "output.LayerNorm")
    modes = json.loads((folder / "1_Pooling" / "config.json").read_text())
    pooled = x.mean(0) if modes["pooling_mode_mean_tokens"] else x[0]
    return pooled / pooled.norm()


@pytest.fixture(scope="module")
def mini() -> LLM:
    return LLM(str(minilm.directory()))


def test_minilm_equals_the_float64_pass(mini: LLM) -> None:
    """All texts in one batch, of lengths 2 to 82: padding changes nothing."""
    answers = mini.embed(list(TEXTS))
    for answer in answers:
        found = torch.tensor(answer.outputs.embedding, dtype=torch.float64)
        expected = embedding(mini.files.path, answer.prompt_token_ids)
        assert (found - expected).abs().max() < LIMIT
        assert answer.outputs.hidden_size == 384


def test_minilm_finds_the_known_similarities(mini: LLM) -> None:
    for row, text in enumerate(TEXTS[:3]):
        scores = [answer.outputs.score for answer in mini.score(text, list(TEXTS[:3]))]
        assert scores == pytest.approx(KNOWN[row], abs=1e-4)


def test_minilm_says_what_it_cannot(mini: LLM) -> None:
    with pytest.raises(
        ValidationError, match=r"prompt 1 has \d+ tokens; the model embeds 1 to 256"
    ):
        mini.embed(["short", "long " * 300])
    with pytest.raises(ValidationError, match="token 30522 is not in the vocabulary of 30522"):
        mini.embed([101, 30522, 102])
    with pytest.raises(ValidationError, match="data_1 has 2 texts and data_2 3"):
        mini.score(list(TEXTS[:2]), list(TEXTS[:3]))
    with pytest.raises(ValidationError, match="this model is an encoder"):
        mini.generate("x")


TINY: dict[str, Any] = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "hidden_act": "gelu",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 260,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
}


def make_bert(folder: Path, pooling: str = "mean", **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    values = TINY | config
    hidden, inner = values["hidden_size"], values["intermediate_size"]
    shapes = {
        "embeddings.word_embeddings.weight": (values["vocab_size"], hidden),
        "embeddings.position_embeddings.weight": (values["max_position_embeddings"], hidden),
        "embeddings.token_type_embeddings.weight": (values["type_vocab_size"], hidden),
    }
    linears = {}
    norms = ["embeddings.LayerNorm"]
    for layer in range(values["num_hidden_layers"]):
        prefix = f"encoder.layer.{layer}."
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            linears[f"{prefix}attention.{name}"] = (hidden, hidden)
        linears[prefix + "intermediate.dense"] = (inner, hidden)
        linears[prefix + "output.dense"] = (hidden, inner)
        norms += [prefix + "attention.output.LayerNorm", prefix + "output.LayerNorm"]
    generator = torch.Generator().manual_seed(1)
    tensors = {n: torch.randn(s, generator=generator) for n, s in shapes.items()}
    for name, shape in linears.items():
        tensors[name + ".weight"] = torch.randn(shape, generator=generator) / shape[1] ** 0.5
        tensors[name + ".bias"] = torch.randn(shape[0], generator=generator) * 0.1
    for name in norms:
        tensors[name + ".weight"] = 1 + 0.1 * torch.randn(hidden, generator=generator)
        tensors[name + ".bias"] = 0.1 * torch.randn(hidden, generator=generator)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(values))
    write_tokenizer(folder)
    (folder / "1_Pooling").mkdir(exist_ok=True)
    modes = {
        f"pooling_mode_{name}": name.startswith(pooling) for name in ("cls_token", "mean_tokens")
    }
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    package = "sentence_transformers.models."
    modules = [{"path": "", "type": package + "Transformer"}]
    modules.append({"path": "1_Pooling", "type": package + "Pooling"})
    modules.append({"path": "2_Normalize", "type": package + "Normalize"})
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_random_weights_and_both_poolings(tmp_path: Path, pooling: str) -> None:
    """Few tokens to a batch, so that texts are computed in several, each in its place."""
    folder = make_bert(tmp_path, pooling)
    llm = LLM(str(folder), max_num_batched_tokens=64, max_num_seqs=3)
    prompts = [[BOS, *range(1, 2 + 7 * n)] for n in (3, 0, 8, 1, 5, 2)]
    for prompt, answer in zip(prompts, llm.embed(prompts), strict=True):
        assert answer.prompt_token_ids == prompt
        found = torch.tensor(answer.outputs.embedding, dtype=torch.float64)
        assert (found - embedding(folder, prompt)).abs().max() < LIMIT


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dtype", "bfloat16"),
        ("dtype", "float16"),
        ("block_size", 32),
        ("kv_cache_memory", 1 << 20),
        ("kv_cache_dtype", "float32"),
        ("seed", 1),
        ("dequantize", True),
        ("scheduling_policy", "fcfs"),
        ("enable_prefix_caching", False),
        ("max_logprobs", 5),
        ("load_format", "dummy"),
    ],
)
def test_what_an_encoder_does_not_use_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    folder = make_bert(tmp_path)
    with pytest.raises(EngineStartError, match=f"{name} {value!r} is not served for encoders"):
        LLM(str(folder), **{name: value})


def test_every_setting_of_the_engine_is_used_or_refused(tmp_path: Path) -> None:
    """What is used: an encoder takes it, and float32 is what it computes in anyway."""
    used = {"max_model_len": 8, "max_num_seqs": 2, "max_num_batched_tokens": 64, "num_threads": 1}
    llm = LLM(str(make_bert(tmp_path)), dtype="float32", device="cpu", **used)
    assert llm.encoder.max_length == 8
    named = {*used, "dtype", "device", "load_format", "model", "served_model_name", *NOT_USED}
    assert named == {field.name for field in fields(EngineConfig)}


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config.json", {"hidden_act": "relu"}, "config.json: hidden_act 'relu' is not supported"),
        ("config.json", {"num_attention_heads": 5}, "hidden_size .32. is not a multiple"),
        ("config.json", {"num_hidden_layers": "x"}, "num_hidden_layers is 'x', a number"),
        ("config.json", {"position_embedding_type": "relative_key"}, "'relative_key' is not"),
        ("config.json", {"intermediate_size": 50}, "has shape .48, 32., the configuration says"),
        ("config.json", {"num_hidden_layers": 3}, "encoder.layer.2.* is missing"),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "chosen pooling is pooling_"),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": False}, "chosen pooling is none"),
    ],
)
def test_bad_encoders_are_named(
    tmp_path: Path, file: str, change: dict[str, Any], message: str
) -> None:
    folder = make_bert(tmp_path)
    values = json.loads((folder / file).read_text()) | change
    (folder / file).write_text(json.dumps(values))
    with pytest.raises(ModelError, match=message):
        LLM(str(folder))
