# SPDX-License-Identifier: Apache-2.0
"""NaN logits end the request that has them, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models import BOS, TINY, make_llama, random_tensors, write_weights
from tests.unit.engine.drive import finish, request
from vllm.config.engine import EngineConfig
from vllm.engine.core import EngineCore
from vllm.protocol.messages import FinishReason
from vllm.sampling.finite import count_nans

BAD = 7
VOCAB = TINY["vocab_size"]
PROMPT = [BOS, *range(10, 50)]


def broken_model(folder: Path, tensor: str) -> Path:
    """A model whose row for token `BAD` in `tensor` is NaN."""
    make_llama(folder, seed=3)
    tensors = random_tensors(TINY, 3)
    tensors[tensor][BAD] = float("nan")
    write_weights(folder, tensors)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return broken_model(tmp_path_factory.mktemp("nan"), "model.embed_tokens.weight")


def start(model: Path, **config: Any) -> EngineCore:
    return EngineCore(EngineConfig(str(model), **{"device": "cpu", "dequantize": True} | config))


def good(count: int) -> list[Any]:
    bias = {BAD: -100.0}
    return [
        request(f"g{i}", [*PROMPT, 60 + i], max_tokens=12, logit_bias=bias) for i in range(count)
    ]


def bad(name: str = "bad", **params: Any) -> Any:
    return request(name, [*PROMPT, BAD, 8, 9], **params)


@pytest.mark.parametrize(
    "params", [{}, {"temperature": 1.0, "seed": 1, "top_p": 0.5}, {"logprobs": 3, "min_p": 0.1}]
)
def test_only_the_request_with_nan_fails(model: Path, params: dict[str, Any]) -> None:
    expected = {name: r.tokens for name, r in finish(start(model), good(4)).items()}
    engine = start(model)
    results = finish(engine, [*good(2), bad(**params), *good(4)[2:]])
    failed = results.pop("bad")
    assert failed.tokens == []
    assert failed.last.finish_reason is FinishReason.ERROR
    assert failed.last.error.code == "internal_error"
    assert f"NaN for {VOCAB} tokens" in failed.last.error.message
    assert failed.last.num_nans_in_logits == VOCAB
    assert {name: r.tokens for name, r in results.items()} == expected
    assert engine.scheduler.kv_cache.usage == 0.0


def test_a_token_that_breaks_ends_the_request_that_chose_it(model: Path) -> None:
    result = finish(start(model), [request("r", PROMPT, allowed_token_ids=[BAD])])["r"]
    assert result.tokens == [BAD]
    assert result.last.finish_reason is FinishReason.ERROR


def test_what_a_broken_request_computed_is_not_shared(model: Path) -> None:
    engine = start(model, max_num_batched_tokens=16, max_num_seqs=4)
    long = [*PROMPT, BAD, *range(60, 100)]
    assert finish(engine, [request("bad", long)])["bad"].tokens == []
    assert len(engine.scheduler.kv_cache.index) == 0


@pytest.mark.parametrize("reference", [True, False])
def test_blocks_of_a_broken_request_do_no_harm_to_the_next(model: Path, reference: bool) -> None:
    """Fewer tokens than a block are read from a block whose other slots are NaN."""
    roomy = start(model, dequantize=reference)
    expected = {name: r.tokens for name, r in finish(roomy, good(1)).items()}
    token = 2 * 2 * 2 * 16 * (4 if reference else 2)  # layers, K and V, KV heads, head size, type
    engine = start(model, dequantize=reference, max_model_len=64, kv_cache_memory=64 * token)
    assert engine.runner.layout.num_blocks == 4
    finish(engine, [request("bad", [BAD] * 63)])
    assert {name: r.tokens for name, r in finish(engine, good(1)).items()} == expected


def test_a_broken_head_fails_every_request(tmp_path: Path) -> None:
    engine = start(broken_model(tmp_path, "lm_head.weight"))
    results = finish(engine, good(3))
    assert {r.last.finish_reason for r in results.values()} == {FinishReason.ERROR}
    assert {r.last.num_nans_in_logits for r in results.values()} == {1}


def test_count_nans() -> None:
    hidden, logits = torch.ones(3, 4), torch.ones(3, 5)
    assert count_nans(hidden, logits) == {}
    logits[0, 0] = -float("inf")
    assert count_nans(hidden, logits) == {}
    hidden[1, 2] = float("inf")
    assert count_nans(hidden, logits) == {1: 1}
    hidden[1, 2] = float("nan")
    logits[1] = float("nan")
    assert count_nans(hidden, logits) == {1: 5}
    logits[:, 3] = float("nan")
    assert count_nans(hidden, logits) == {0: 1, 1: 5, 2: 1}
