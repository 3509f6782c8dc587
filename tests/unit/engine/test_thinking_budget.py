# SPDX-License-Identifier: Apache-2.0
"""A thinking budget: so many tokens between the marks, the end mark, then what the model likes.

The model is random, so a bias makes it think or close a thought where a test needs it.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.models import BOS, make_llama
from tests.unit.engine.drive import finish, request
from vllm.config.engine import EngineConfig
from vllm.engine.core import EngineCore
from vllm.errors import EngineStartError, RequestError
from vllm.sampling.params import SamplingParams

START, END = [200], [201]
LONG_START, LONG_END = [200, 202], [201, 203, 201]
NO_END = {201: -100.0, 257: -100.0}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("tiny"), seed=3)


def start(
    model: Path, first: list[int] = START, last: list[int] = END, **config: Any
) -> EngineCore:
    values = {"thinking_start": tuple(first), "thinking_end": tuple(last)} | config
    return EngineCore(EngineConfig(str(model), dequantize=True, **values))


@pytest.fixture(scope="module")
def engine(model: Path) -> EngineCore:
    return start(model)


def tokens_of(engine: EngineCore, prompt: list[int], **params: Any) -> list[int]:
    values = {"max_tokens": 20, "logit_bias": NO_END} | params
    return finish(engine, [request("r", [BOS, *prompt], **values)])["r"].tokens


@pytest.mark.parametrize("budget", [0, 1, 5])
def test_a_thought_that_the_prompt_opened_ends_in_time(engine: EngineCore, budget: int) -> None:
    plain = tokens_of(engine, [1, *START])
    tokens = tokens_of(engine, [1, *START], thinking_token_budget=budget)
    assert tokens[: budget + 1] == plain[:budget] + END
    # Nothing is left for another thought: it is closed as soon as it is opened.
    after = tokens[budget + 1 :]
    assert all((one == 200) == (other == 201) for one, other in pairwise(after))


def test_what_the_prompt_has_thought_counts(engine: EngineCore) -> None:
    for thought, free in (([5, 6], 1), ([5, 6, 7], 0), ([5, 6, 7, 8], 0)):
        tokens = tokens_of(engine, [*START, *thought], thinking_token_budget=3)
        assert tokens.index(201) == free


def test_earlier_turns_of_the_prompt_do_not_count(engine: EngineCore) -> None:
    turns = [*START, 5, 6, 7, 8, *END, 9]
    assert tokens_of(engine, [*turns, *START], thinking_token_budget=2).index(201) == 2
    answer = tokens_of(engine, turns, thinking_token_budget=0)
    assert answer == tokens_of(engine, turns)


def test_a_thought_of_the_output_counts_from_its_mark(engine: EngineCore) -> None:
    # Nothing but START first, then what the model likes: START is likely, so it thinks at once.
    opens = {"logit_bias": {200: 100.0} | NO_END, "thinking_token_budget": 3, "max_tokens": 12}
    tokens = tokens_of(engine, [1], **opens)
    # 200 opens; three more are thoughts; the end; the next 200 opens again with nothing left.
    assert tokens == [200, 200, 200, 200, 201, 200, 201, 200, 201, 200, 201, 200]


def test_thoughts_of_one_output_count_together(engine: EngineCore) -> None:
    likes = {"allowed_token_ids": [200, 201], "logit_bias": {201: 100.0}}
    # One thought token is spent on a natural end, so one is left for the second thought.
    prompt = [1, *START, 5]
    tokens = tokens_of(engine, prompt, **likes, thinking_token_budget=3, max_tokens=1)
    assert tokens == [201]


def test_marks_of_several_tokens(model: Path) -> None:
    engine = start(model, LONG_START, LONG_END)
    plain = tokens_of(engine, [1, *LONG_START])
    tokens = tokens_of(engine, [1, *LONG_START], thinking_token_budget=4)
    assert tokens[:7] == plain[:4] + LONG_END
    # Half a mark opens nothing.
    assert tokens_of(engine, [1, 200], thinking_token_budget=0) == tokens_of(engine, [1, 200])
    # A mark that the model has begun is gone on with, not begun again.
    likes = {"logit_bias": {201: 100.0}, "max_tokens": 4}
    tokens = tokens_of(engine, [1, *LONG_START, 5], **likes, thinking_token_budget=2)
    assert tokens[:3] == LONG_END


def test_the_end_mark_wins_over_other_rules(engine: EngineCore) -> None:
    forbids = {
        "allowed_token_ids": [7, 8],
        "_bad_words_token_ids": [[201]],
        "stop_token_ids": [201],
        "min_tokens": 9,
        "repetition_penalty": 1e6,
        "temperature": 2.0,
        "seed": 1,
    }
    tokens = tokens_of(engine, START, **forbids, thinking_token_budget=2)
    assert tokens[2] == 201
    assert set(tokens[:2] + tokens[3:]) <= {7, 8}


def test_preemption_forgets_nothing(model: Path) -> None:
    block = 4 * 2 * 2 * 2 * 16 * 4  # tokens, keys and values, layers, KV heads, head size, f32
    requests = [
        request(
            str(i),
            [BOS, *START, i, i + 1],
            max_tokens=40,
            temperature=1.0,
            seed=i,
            thinking_token_budget=10 + 5 * i,
            logit_bias=NO_END,
        )
        for i in range(4)
    ]
    crowded = start(model, block_size=4, max_model_len=48, kv_cache_memory=14 * block)
    results = finish(crowded, requests)
    assert crowded.scheduler.num_preemptions > 0
    expected = finish(start(model), requests)
    assert {k: r.tokens for k, r in results.items()} == {k: r.tokens for k, r in expected.items()}
    assert [results[str(i)].tokens.index(201) for i in range(4)] == [8, 13, 18, 23]


def test_without_marks_a_budget_is_refused_by_name(model: Path) -> None:
    engine = EngineCore(EngineConfig(str(model), dequantize=True))
    with pytest.raises(RequestError, match=r"thinking_token_budget is 5; .* --reasoning-config"):
        engine.add_request(request("r", [BOS], thinking_token_budget=5))
    assert SamplingParams(thinking_token_budget=-1).thinking_token_budget is None
    with pytest.raises(EngineStartError, match=r"tokens \(200,\) and \(260,\); the model has"):
        start(model, last=[260])
    with pytest.raises(ValueError, match="both or neither"):
        EngineConfig("x", thinking_start=(1,))
