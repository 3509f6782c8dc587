# SPDX-License-Identifier: Apache-2.0
"""Every family on a GPU in float32 against the float64 forward pass, prompts cut into pieces.

The cases and limits are those of the CPU (tests/exactness).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.device.cache import CACHE
from tests.exactness.cases import CASES, PROMPT, REFERENCE_LIMIT, SERVED, TOKENS
from tests.exactness.compare import first_wrong_token
from tests.exactness.families import FamilyReference
from tests.models import make_llama
from tests.unit.engine.drive import finish, request
from vllm.config.engine import EngineConfig
from vllm.engine.core import EngineCore

# tests/unit/loader has these on the CPU; here a family's plainest form belongs to the list.
PLAIN = {
    "llama": {},
    "qwen2": {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"},
    "qwen3": {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 32},
    "phi3": {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3"},
    "mistral": {"architectures": ["MistralForCausalLM"], "model_type": "mistral"},
}
ALL = {f"{name}-plain": config for name, config in PLAIN.items()} | CASES


def start(folder: Path) -> EngineCore:
    return EngineCore(
        EngineConfig(
            str(folder),
            device="cuda",
            dequantize=True,
            kv_cache_memory=CACHE,
            max_model_len=SERVED,
            max_num_seqs=4,
            max_num_batched_tokens=24,
        )
    )


@pytest.mark.parametrize("name", ALL)
def test_tokens_and_logits_of_a_family(name: str, tmp_path: Path) -> None:
    folder = make_llama(tmp_path / name, **ALL[name])
    engine = start(folder)
    tokens = finish(engine, [request("r", PROMPT, max_tokens=TOKENS)])["r"].tokens
    logits = engine.runner.logits[0].double().cpu()  # of the last step
    expected = FamilyReference.from_directory(folder, SERVED).logits(PROMPT + tokens[:-1])
    assert first_wrong_token(expected, len(PROMPT), tokens) is None
    assert (logits - expected[-1]).abs().max() / expected.abs().max() < REFERENCE_LIMIT
