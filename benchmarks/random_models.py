# SPDX-License-Identifier: Apache-2.0
"""Models of real sizes with random weights: what a benchmark needs where no weights can be had.

Owns their shapes. Time depends on shapes alone, but for experts: a random router spreads tokens
evenly over them, a trained one nearly so. Tokenizer and template are the default model's.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks import model_dir
from tests.models import random_tensors, write_weights
from vllm.config.embedded import cache_root

_COMMON: dict[str, Any] = {
    "hidden_act": "silu",
    "vocab_size": 49_152,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 100_000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}

SHAPES: dict[str, dict[str, Any]] = {
    # 1.1e9 parameters, the layers of Llama 3.2 1B
    "dense-1b": _COMMON
    | {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    # 8.0e9 parameters, the layers of Llama 3.1 8B
    "dense-8b": _COMMON
    | {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128_256,
        "tie_word_embeddings": False,
    },
    # 1.4e9 parameters, 0.24e9 of them in a token's way: the layers of Qwen3-MoE, narrower
    "moe-1b": _COMMON
    | {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "moe_intermediate_size": 384,
        "num_hidden_layers": 16,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "head_dim": 64,
        "num_experts": 64,
        "num_experts_per_tok": 4,
        "norm_topk_prob": True,
    },
}


def write(name: str) -> Path:
    """The directory of a model of `SHAPES` in the user's cache; some seconds the first time."""
    folder, text = cache_root() / "benchmarks" / name, config_text(name)
    done = folder / "config.json"
    if done.is_file() and done.read_text() == text:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_weights(folder, random_tensors(json.loads(text), seed=1))
    return write_without_weights(name, folder)  # config.json last: it says that all is there


def write_without_weights(name: str, folder: Path) -> Path:
    """What `--load-format dummy` needs of a model of `SHAPES`."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(model_dir.write() / file, folder / file)
    (folder / "config.json").write_text(config_text(name))
    return folder


def config_text(name: str) -> str:
    """config.json of a model of `SHAPES`, with the default model's end of sequence."""
    tokens = json.loads((model_dir.write() / "config.json").read_text())
    return json.dumps(SHAPES[name] | {"eos_token_id": tokens["eos_token_id"]}, indent=1)
