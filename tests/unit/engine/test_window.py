# SPDX-License-Identifier: Apache-2.0
"""A model whose layers all have a window: blocks behind it are given back, answers are the same."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tests.exactness.families import FamilyReference
from tests.models import BOS, make_llama
from tests.unit.engine.drive import finish, request
from vllm.config.engine import EngineConfig
from vllm.engine.core import EngineCore
from vllm.errors import EngineStartError
from vllm.kvcache.manager import blocks_in_window
from vllm.protocol.messages import EngineCoreRequest

WINDOW, BLOCK = 20, 4
BLOCK_BYTES = BLOCK * 2 * 2 * 2 * 16 * 4  # tokens, keys and values, layers, KV heads, head, f32


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    windows: dict[str, Any] = {
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "sliding_window": WINDOW,
    }
    return make_llama(tmp_path_factory.mktemp("window"), seed=3, **windows)


def start(model: Path, **config: Any) -> EngineCore:
    values = {"block_size": BLOCK, "max_num_batched_tokens": 16, "max_num_seqs": 4} | config
    return EngineCore(EngineConfig(str(model), dequantize=True, **values))


def keeping(model: Path) -> EngineCore:
    """A roomy engine that gives nothing back before its request ends."""
    engine = start(model, max_num_seqs=16)
    engine.scheduler.kv_cache.window = 0
    return engine


def requests(count: int) -> list[EngineCoreRequest]:
    rng = random.Random(count)
    prompts = [[BOS, *(rng.randrange(256) for _ in range(rng.randrange(1, 120)))] for _ in "abc"]
    chosen = [rng.choice(prompts)[: rng.randrange(1, 121)] for _ in range(count)]
    return [
        request(str(i), prompt, max_tokens=60, temperature=0.7 * (i % 2), seed=i)
        for i, prompt in enumerate(chosen)
    ]


def tokens(engine: EngineCore, asked: list[EngineCoreRequest]) -> dict[str, list[int]]:
    return {name: result.tokens for name, result in finish(engine, asked).items()}


def test_a_long_request_holds_its_window(model: Path) -> None:
    engine = start(model)
    prompt = [BOS, *range(100)]
    engine.add_request(request("r", prompt, max_tokens=100))
    given, most = [], 0
    while engine.has_work():
        for output in engine.step():
            given += output.new_token_ids
        kv_cache = engine.scheduler.kv_cache
        held = len(kv_cache.table("r")) - kv_cache.num_gone("r")
        most = max(most, held)
        if len(given) > 1 and held:
            assert held <= blocks_in_window(WINDOW, 1, BLOCK)
        kv_cache.check_integrity()
    reference = FamilyReference.from_directory(model, served=256)
    logits = reference.logits(prompt + given[:-1])[len(prompt) - 1 :]
    assert given == logits.argmax(-1).tolist()
    assert 0 < most <= blocks_in_window(WINDOW, 16, BLOCK)


@pytest.mark.parametrize("caching", [True, False])
def test_answers_do_not_depend_on_what_is_given_back(model: Path, caching: bool) -> None:
    asked = requests(24)
    expected = tokens(keeping(model), asked)
    least = blocks_in_window(WINDOW, 16, BLOCK) * BLOCK_BYTES
    for memory in (None, 2 * least, least):
        engine = start(model, enable_prefix_caching=caching, kv_cache_memory=memory)
        assert tokens(engine, asked) == expected
        if memory is not None:
            assert engine.scheduler.num_preemptions > 0 or engine.runner.layout.num_blocks < 20


def test_a_prompt_longer_than_the_cache_is_served(model: Path) -> None:
    least = blocks_in_window(WINDOW, 16, BLOCK)
    small = start(model, kv_cache_memory=least * BLOCK_BYTES)
    assert small.runner.max_model_len == 256 > small.runner.layout.num_tokens
    prompt = [BOS, *(i % 250 for i in range(200))]
    asked = [request("r", prompt, max_tokens=50)]
    assert tokens(small, asked) == tokens(keeping(model), asked)
    with pytest.raises(EngineStartError, match="one request of 256 tokens does not fit"):
        start(model, kv_cache_memory=(least - 1) * BLOCK_BYTES, max_model_len=256)


def test_the_next_turn_finds_what_its_window_needs(model: Path) -> None:
    engine = start(model)
    prompt = [BOS, *range(119)]
    answer = finish(engine, [request("a", prompt, max_tokens=20)])["a"].tokens
    turn = [*prompt, *answer, 5, 6]
    result = finish(engine, [request("b", turn)])["b"]
    assert result.outputs[0].prefill_stats.num_cached_tokens == 136
    assert result.tokens == tokens(keeping(model), [request("b", turn)])["b"]
    # All but the blocks of the window may be gone.
    kv_cache = engine.scheduler.kv_cache
    first = [kv_cache.index.find([key])[0] for key in _chain(engine, turn)[:20]]
    kv_cache.pool.forget(first)
    result = finish(engine, [request("c", turn)])["c"]
    assert result.outputs[0].prefill_stats.num_cached_tokens == 140
    assert result.tokens == tokens(keeping(model), [request("c", turn)])["c"]


def _chain(engine: EngineCore, text: list[int]) -> list[bytes]:
    asked = request("x", text)
    engine.add_request(asked)
    chain = list(engine.scheduler._chain(engine.requests["x"]))
    engine.abort_requests(["x"])
    return chain
