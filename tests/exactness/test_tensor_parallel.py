# SPDX-License-Identifier: Apache-2.0
"""Greedy tokens of a model over several processes are those of one process, in float32.

One model of every kind of layer; SmolLM2 besides, whose 9 heads three ranks share, so that packed
weights are cut too: by rows, and by columns in whole blocks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.exactness.cases import CASES, PROMPT, SERVED
from tests.exactness.generate import run
from tests.models import make_llama
from vllm.config.embedded import DEFAULT_MODEL, EMBEDDED, fetch

KINDS = ["rope-llama3", "qwen2-window", "qwen3-moe", "gemma3", "phi3", "mixtral", "deepseek-v3"]
PROMPTS = [PROMPT, PROMPT[:20], PROMPT[5:40]]
TOKENS = 16


def tokens(
    model: Path, ranks: int, prompts: list[list[int]], **config: Any
) -> dict[str, list[int]]:
    """The greedy answer to each prompt; each comes some steps after the one before."""
    requests = [
        {"name": str(at), "prompt": prompt, "params": {"max_tokens": TOKENS}, "at": 3 * at}
        for at, prompt in enumerate(prompts)
    ]
    limits = {"max_model_len": SERVED, "max_num_seqs": 4, "max_num_batched_tokens": 24}
    own = {"model": str(model), "tensor_parallel_size": ranks, "num_threads": 1, **limits, **config}
    return run([{"config": own, "requests": requests}], "scalar")[0]["tokens"]


@pytest.mark.parametrize("name", KINDS)
def test_two_ranks_give_the_tokens_of_one(tmp_path: Path, name: str) -> None:
    model = make_llama(tmp_path, **CASES[name])
    one = tokens(model, 1, PROMPTS, dequantize=True)
    assert {len(answer) for answer in one.values()} == {TOKENS}
    assert tokens(model, 2, PROMPTS, dequantize=True) == one


@pytest.mark.parametrize("packed", [False, True])
def test_three_ranks_of_the_default_model(packed: bool) -> None:
    model = fetch(EMBEDDED[DEFAULT_MODEL])
    values = {"kv_cache_dtype": "float32", "dequantize": not packed}
    short = [PROMPT[:8]]  # the scalar kernels are slow
    assert tokens(model, 3, short, **values) == tokens(model, 1, short, **values)
