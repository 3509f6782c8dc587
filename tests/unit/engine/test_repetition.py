# SPDX-License-Identifier: Apache-2.0
"""Outputs that repeat themselves end, as soon as they do and not before."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tests.models import BOS, make_llama
from tests.unit.engine.drive import Result, finish, request
from vllm.config.engine import EngineConfig
from vllm.engine.core import EngineCore
from vllm.engine.repetition import RepetitionWatch, make_watch
from vllm.errors import ValidationError
from vllm.protocol.messages import FinishReason
from vllm.sampling.params import RepetitionDetectionParams

PROMPT = [BOS, 10, 20]


def params(longest: int, count: int, shortest: int = 0) -> RepetitionDetectionParams:
    return RepetitionDetectionParams(
        max_pattern_size=longest, min_pattern_size=shortest, min_count=count
    )


def repeats(tokens: list[int], wanted: RepetitionDetectionParams) -> bool:
    """The definition: the last tokens are `min_count` times the same pattern."""
    for size in range(max(1, wanted.min_pattern_size), wanted.max_pattern_size + 1):
        length = size * wanted.min_count
        if len(tokens) >= length and tokens[-length:] == tokens[-size:] * wanted.min_count:
            return True
    return False


@pytest.mark.parametrize("seed", range(60))
def test_the_watch_sees_what_the_definition_says(seed: int) -> None:
    rng = random.Random(seed)
    longest = rng.randrange(1, 12)
    wanted = params(longest, rng.randrange(2, 5), rng.randrange(0, longest + 1))
    watch = RepetitionWatch(wanted, 200)
    tokens: list[int] = []
    seen = 0
    for _ in range(200):
        again = len(tokens) > longest and rng.random() < 0.8
        tokens.append(tokens[-rng.randrange(1, longest + 1)] if again else rng.randrange(3))
        expected = repeats(tokens, wanted)
        assert watch.append(tokens[-1]) == expected
        seen += expected
    assert seen > 0 or wanted.min_pattern_size > 2


def test_a_pattern_that_cannot_fit_costs_nothing() -> None:
    watch = make_watch(params(4096, 3, 50), max_tokens=100)
    assert watch is not None
    assert not any(watch.append(7) for _ in range(100))
    assert make_watch(None, 100) is None
    assert make_watch(RepetitionDetectionParams(), 100) is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_pattern_size": -1}, "max_pattern_size must be"),
        ({"max_pattern_size": 4097, "min_count": 2}, "at most 4096, got 4097"),
        ({"max_pattern_size": 2, "min_pattern_size": 3, "min_count": 2}, "min_pattern_size must"),
        ({"max_pattern_size": 2, "min_count": 1}, "min_count must be at least 2, got 1"),
    ],
)
def test_bad_parameters_are_refused_by_name(values: dict[str, int], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        RepetitionDetectionParams(**values)
    assert (caught.value.field or "").startswith("repetition_detection.")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("tiny"), seed=3)


def start(model: Path, **config: Any) -> EngineCore:
    return EngineCore(EngineConfig(str(model), dequantize=True, **config))


@pytest.fixture(scope="module")
def engine(model: Path) -> EngineCore:
    return start(model)


def one(engine: EngineCore, **values: Any) -> Result:
    return finish(engine, [request("r", PROMPT, **values)])["r"]


def test_a_repeated_token_ends_the_output(engine: EngineCore) -> None:
    only_nine = {"allowed_token_ids": [9], "max_tokens": 50}
    result = one(engine, **only_nine, repetition_detection=params(3, 4))
    assert result.tokens == [9] * 4
    assert result.last.finish_reason is FinishReason.REPETITION
    assert result.last.stop_reason == "repetition_detected"
    result = one(engine, **only_nine, repetition_detection=params(3, 4), min_tokens=10)
    assert len(result.tokens) == 10
    result = one(engine, **only_nine, repetition_detection=params(3, 2, 2))
    assert len(result.tokens) == 4


def test_other_reasons_come_first_and_the_prompt_does_not_count(engine: EngineCore) -> None:
    nine = {"allowed_token_ids": [9], "repetition_detection": params(1, 3)}
    last = one(engine, **nine, max_tokens=3).last
    assert (last.finish_reason, last.stop_reason) == (FinishReason.LENGTH, None)
    last = one(engine, **nine, stop_token_ids=[9]).last
    assert (last.finish_reason, last.stop_reason) == (FinishReason.STOP, 9)
    result = finish(engine, [request("p", [BOS, 9, 9, 9], **nine)])["p"]
    assert result.tokens == [9, 9, 9]


def test_a_preempted_output_is_still_watched(model: Path) -> None:
    block = 4 * 2 * 2 * 2 * 16 * 4  # tokens, keys and values, layers, KV heads, head size, f32
    crowded = start(model, block_size=4, max_model_len=48, kv_cache_memory=14 * block)
    watched = [
        request(
            str(i),
            [BOS, i, i + 1, i + 2],
            max_tokens=40,
            allowed_token_ids=[9],
            repetition_detection=params(1, 30),
        )
        for i in range(4)
    ]
    results = finish(crowded, watched)
    assert crowded.scheduler.num_preemptions > 0
    assert {name: len(result.tokens) for name, result in results.items()} == dict.fromkeys(
        "0123", 30
    )
