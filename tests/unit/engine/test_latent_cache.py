# SPDX-License-Identifier: Apache-2.0
"""DeepSeek's cache: one small vector a token, and everything that blocks promise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.exactness.cases import DEEPSEEK, family
from tests.models import BOS, make_llama
from tests.unit.engine.drive import finish, request
from vllm.config.engine import EngineConfig
from vllm.engine.core import EngineCore

TOKEN_BYTES = 2 * (8 + 32) * 4  # layers, rotated and latent elements, f32


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = family("DeepseekV2", "deepseek_v2", **DEEPSEEK)
    return make_llama(tmp_path_factory.mktemp("latent"), seed=3, **config)


def start(model: Path, **config: Any) -> EngineCore:
    return EngineCore(EngineConfig(str(model), dequantize=True, block_size=4, **config))


def test_a_token_takes_one_vector(model: Path) -> None:
    engine = start(model)
    assert engine.runner.layout.token_bytes == TOKEN_BYTES
    # Keys and values of 4 heads of 24 elements, two layers, would take 4.8 times as much.
    assert TOKEN_BYTES * 4.8 == 2 * 2 * 4 * 24 * 4
    for cache in engine.runner.caches:
        assert cache.keys.data_ptr() == cache.values.data_ptr()
        assert cache.keys.shape[1:] == (1, 4, 40)


def test_chunks_preemption_and_shared_beginnings_change_nothing(model: Path) -> None:
    beginning = [BOS, *range(30)]
    requests = [
        request(str(i), [*beginning, i], max_tokens=20, temperature=0.5 * i, seed=i)
        for i in range(4)
    ]
    alone: dict[str, list[int]] = {}
    for each in requests:
        alone |= {name: found.tokens for name, found in finish(start(model), [each]).items()}
    memory = 26 * 4 * TOKEN_BYTES
    crowded = start(
        model,
        kv_cache_memory=memory,
        max_model_len=64,
        max_num_batched_tokens=9,
        max_num_seqs=4,
    )
    results = finish(crowded, requests)
    assert {name: found.tokens for name, found in results.items()} == alone
    assert crowded.scheduler.num_preemptions > 0
    assert sum(r.outputs[0].prefill_stats.num_cached_tokens for r in results.values()) >= 3 * 28
