# SPDX-License-Identifier: Apache-2.0
"""A directory with a real tokenizer and template and no weights: what a frontend alone needs.

Upstream's frontend reads no GGUF, so the default model's metadata is written out as a Hugging Face
directory into the user's cache; both frontends are measured on it.
"""

from __future__ import annotations

import json
from pathlib import Path

from vllm.config.embedded import DEFAULT_MODEL, cache_root
from vllm.config.model_source import resolve
from vllm.text.model_files import open_model_files
from vllm.text.tokenizer import load_tokenizer

CONTEXT = 131_072  # longer than the model's own: long prompts are a row, and no weights are used


def write() -> Path:
    """The directory, written anew (milliseconds)."""
    files = open_model_files(resolve(DEFAULT_MODEL).path)
    folder = cache_root() / "benchmarks" / DEFAULT_MODEL
    folder.mkdir(parents=True, exist_ok=True)
    load_tokenizer(files).core.save(str(folder / "tokenizer.json"))
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "max_position_embeddings": CONTEXT,
        "vocab_size": files.vocab_size,
        "eos_token_id": list(files.eos_token_ids),
    }
    template = {"chat_template": files.chat_template, **files.special_tokens}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps(template))
    return folder
