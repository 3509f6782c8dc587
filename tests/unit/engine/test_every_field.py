# SPDX-License-Identifier: Apache-2.0
"""No sampling parameter is dropped in silence: each one of the wire has an effect in the engine, is
refused by name, or is a frontend's matter and named as such here.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from tests.models import BOS, make_llama
from tests.unit.engine.drive import finish, request
from vllm.config.engine import EngineConfig
from vllm.engine.core import EngineCore
from vllm.errors import RequestError
from vllm.sampling.params import (
    RepetitionDetectionParams,
    RequestOutputKind,
    SamplingParams,
    StructuredOutputsParams,
)

PROMPT = [BOS, 10, 20, 30, 40]
DRAWN = {"temperature": 1.5, "seed": 3, "max_tokens": 12}
NINES = {"allowed_token_ids": [9], "max_tokens": 12}

# Field: parameters without it, and the field's value that makes another answer of them.
CHANGES: dict[str, tuple[dict[str, Any], Any]] = {
    "presence_penalty": ({"logit_bias": {9: 8.0}}, 2.0),
    "frequency_penalty": ({"logit_bias": {9: 8.0}}, 2.0),
    "repetition_penalty": ({}, 100.0),
    "temperature": ({"seed": 3}, 2.0),
    "top_p": (DRAWN, 0.01),
    "top_k": (DRAWN, 1),
    "min_p": (DRAWN, 1.0),
    "seed": (DRAWN, 4),
    "stop_token_ids": (NINES, [9]),
    "ignore_eos": (NINES | {"_eos_token_id": 9}, True),
    "max_tokens": (NINES, 3),
    "min_tokens": (
        {"allowed_token_ids": [7, 9], "stop_token_ids": [7], "logit_bias": {7: 99.0}},
        4,
    ),
    "logprobs": ({}, 2),
    "prompt_logprobs": ({}, 2),
    "logprob_token_ids": ({}, [9, 8]),
    "_eos_token_id": (NINES, 9),
    "_all_stop_token_ids": (
        {"min_tokens": 2, "stop_token_ids": [0], "logit_bias": {9: 99.0}},
        {0, 9},
    ),
    "logit_bias": ({}, {9: 100.0}),
    "allowed_token_ids": ({}, [9]),
    "_bad_words_token_ids": ({"logit_bias": {9: 99.0}}, [[9]]),
    "thinking_token_budget": ({}, 0),
    "repetition_detection": (
        NINES,
        RepetitionDetectionParams(max_pattern_size=1, min_count=3),
    ),
}
REFUSED: dict[str, Any] = {
    "n": 2,  # each choice is a request of its own
    "prompt_logprob_token_ids": np.array([1]),
    "prompt_logprob_start": 1,
    "structured_outputs": StructuredOutputsParams(regex="a"),
    "extra_args": {"kv_transfer_params": {}},
    "bad_words": ["x"],  # without their token ids
    "trace_decode_token_ids": [1],
}
# Text and its form: matched, cut and spaced by whoever has the tokenizer.
FRONTENDS: dict[str, Any] = {
    "stop": ["x"],
    "detokenize": False,
    "skip_special_tokens": False,
    "spaces_between_special_tokens": False,
    "include_stop_str_in_output": True,
    "output_kind": RequestOutputKind.FINAL_ONLY,
    "stream_interval": 5,
    "output_text_buffer_length": 7,
    "flat_logprobs": True,
    "skip_clone": True,
}
# What they switch on exists in no engine of ours; the values ask for nothing.
NEUTRAL: dict[str, Any] = {
    "watermarking": True,  # upstream's frontend sends it with every request
    "_watermarking_skipped": True,
    "routed_experts_prompt_start": 3,
}
CACHE = {"skip_reading_prefix_cache"}  # seen in the hits, not in the answer


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> EngineCore:
    model = make_llama(tmp_path_factory.mktemp("tiny"), seed=3)
    thinking = {"thinking_start": (40,), "thinking_end": (201,)}  # the prompt leaves a thought open
    return EngineCore(EngineConfig(str(model), dequantize=True, **thinking))


def answer(engine: EngineCore, **params: Any) -> list[Any]:
    """Everything that a client is told but for the times."""
    told = []
    for output in finish(engine, [request("r", PROMPT, **params)])["r"].outputs:
        output.events = None
        output.prefill_stats = None
        told.append(msgspec.to_builtins(output, enc_hook=repr))
    return told


def test_every_field_is_here_once() -> None:
    tables = (CHANGES, REFUSED, FRONTENDS, NEUTRAL, CACHE)
    named = [name for table in tables for name in table]
    assert sorted(named) == sorted(SamplingParams.__struct_fields__)


@pytest.mark.parametrize("name", CHANGES)
def test_the_engine_honours(engine: EngineCore, name: str) -> None:
    without, value = CHANGES[name]
    plain = answer(engine, **without)
    assert answer(engine, **without) == plain
    assert answer(engine, **without | {name: value}) != plain


@pytest.mark.parametrize("name", REFUSED)
def test_the_engine_refuses(engine: EngineCore, name: str) -> None:
    params = {name: REFUSED[name]} | ({"temperature": 1.0} if name == "n" else {})
    with pytest.raises(RequestError, match=f"^{name} is ") as caught:
        engine.add_request(request("r", PROMPT, **params))
    assert caught.value.code == "validation_error"


@pytest.mark.parametrize("name", [*FRONTENDS, *NEUTRAL])
def test_nothing_is_changed_by(engine: EngineCore, name: str) -> None:
    value = (FRONTENDS | NEUTRAL)[name]
    assert answer(engine, **{name: value}) == answer(engine)


def test_the_cache_may_be_left_alone(engine: EngineCore) -> None:
    prompt = [BOS, *range(40)]

    def hits(**params: Any) -> int:
        result = finish(engine, [request("r", prompt, **params)])["r"]
        return result.outputs[0].prefill_stats.num_cached_tokens

    assert [hits(), hits(), hits(skip_reading_prefix_cache=True)] == [0, 32, 0]
