# SPDX-License-Identifier: Apache-2.0
"""What the engine promises, on a GPU: a request's tokens are those of the CPU's reference mode,
however they are scheduled, cached, preempted or sampled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.device.cache import CACHE
from tests.exactness.reference import Reference
from tests.models import BOS, make_llama
from tests.unit.engine.drive import Result, finish, request
from vllm.config.engine import EngineConfig
from vllm.engine.core import EngineCore
from vllm.errors import EngineStartError, NotSupported, UsageError

PROMPT = [BOS, 10, 20, 30, 40]
# Bytes of 4 tokens: keys and values, layers, KV heads, head size, f32.
BLOCK = 4 * 2 * 2 * 2 * 16 * 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("tiny"), seed=3)


@pytest.fixture(scope="module")
def reference(model: Path) -> Reference:
    return Reference.from_directory(model)


def start(model: Path, device: str = "cuda", **config: Any) -> EngineCore:
    values = {"device": device, "dequantize": True, "kv_cache_memory": CACHE}
    return EngineCore(EngineConfig(str(model), **values | config))


def tokens_of(results: dict[str, Result]) -> dict[str, list[int]]:
    return {name: result.tokens for name, result in results.items()}


def varied(count: int = 11, length: int = 24) -> list[Any]:
    """Greedy and sampled requests of different lengths, with all that a sampler can be asked."""
    extras: list[dict[str, Any]] = [
        {},
        {"temperature": 1.0, "seed": 5},
        {"temperature": 0.8, "seed": 6, "top_k": 9, "top_p": 0.8},
        {"temperature": 1.3, "seed": 7, "min_p": 0.05},
        {"repetition_penalty": 1.3, "frequency_penalty": 0.4, "presence_penalty": -0.3},
        {"logit_bias": {7: 2.0, 11: -100.0}},
        {"temperature": 1.0, "seed": 8, "allowed_token_ids": [5, 6, 7, 8]},
    ]
    return [
        request(
            str(i),
            [BOS, *range(5 * i, 5 * i + 3 + 7 * i)],
            max_tokens=length + i,
            **extras[i % len(extras)],
        )
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def on_cpu(model: Path) -> dict[str, list[int]]:
    return tokens_of(finish(start(model, "cpu"), varied()))


def test_greedy_tokens_equal_the_reference(model: Path, reference: Reference) -> None:
    result = finish(start(model), [request("r", PROMPT, max_tokens=30)])["r"]
    assert result.tokens == reference.greedy(PROMPT, 30)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"max_num_seqs": 3},
        {"max_num_batched_tokens": 6, "max_num_seqs": 4},
        {"block_size": 4, "max_model_len": 128, "kv_cache_memory": 45 * BLOCK},
        {"enable_prefix_caching": False},
        {"enforce_eager": True},
    ],
)
def test_schedule_does_not_change_tokens(
    model: Path, on_cpu: dict[str, list[int]], config: dict[str, Any]
) -> None:
    engine = start(model, **config)
    assert tokens_of(finish(engine, varied())) == on_cpu
    assert (engine.scheduler.num_preemptions > 0) == ("kv_cache_memory" in config)


def test_decode_steps_are_graphs_of_a_few_sizes(model: Path) -> None:
    engine = start(model, max_num_seqs=6)
    requests = [request(str(i), [BOS, i], max_tokens=4 + 3 * i) for i in range(6)]
    expected = tokens_of(finish(start(model, enforce_eager=True), requests))
    assert tokens_of(finish(engine, requests)) == expected
    recordings = dict(engine.runner._decode_steps.recordings)
    assert sorted(recordings) == [1, 2, 4, 6]
    assert tokens_of(finish(engine, requests)) == expected  # by replays alone
    assert engine.runner._decode_steps.recordings == recordings


def test_requests_alone_equal_requests_together(model: Path, on_cpu: dict[str, list[int]]) -> None:
    engine = start(model)
    alone: dict[str, list[int]] = {}
    for each in varied():
        alone |= tokens_of(finish(engine, [each]))
    assert alone == on_cpu


def test_what_is_cached_is_not_computed_again(model: Path) -> None:
    engine, prompt = start(model), [BOS, *range(63)]
    first = finish(engine, [request("a", prompt, max_tokens=20)])["a"]
    again = finish(engine, [request("b", prompt, max_tokens=20)])["b"]
    stats = again.outputs[0].prefill_stats
    assert (stats.num_cached_tokens, stats.num_computed_tokens) == (48, 16)
    assert again.tokens == first.tokens


def test_logprobs_and_ranks(model: Path, reference: Reference) -> None:
    params = {"logprobs": 3, "temperature": 1.5, "seed": 1, "max_tokens": 6}
    result = finish(start(model), [request("r", PROMPT, **params), request("x", [BOS, 1])])["r"]
    expected = reference.logits(PROMPT + result.tokens[:-1])[len(PROMPT) - 1 :].log_softmax(-1)
    for token, output, row in zip(result.tokens, result.outputs, expected, strict=True):
        lists, best = output.new_logprobs, row.topk(3)
        assert lists.token_ids[0].tolist() == [token, *best.indices.tolist()]
        np.testing.assert_allclose(lists.logprobs[0, 0], row[token], atol=1e-4)
        np.testing.assert_allclose(lists.logprobs[0, 1:], best.values, atol=1e-4)
        assert lists.sampled_token_ranks.tolist() == [1 + int((row > row[token]).sum())]


@pytest.mark.parametrize("budget", [2048, 7])
def test_prompt_logprobs(model: Path, reference: Reference, budget: int) -> None:
    engine = start(model, max_num_batched_tokens=budget, max_num_seqs=4)
    prompt = [BOS, *range(30, 60)]
    result = finish(engine, [request("r", prompt, prompt_logprobs=2), request("x", [1])])["r"]
    tensors = result.outputs[0].new_prompt_logprobs_tensors
    expected = reference.logits(prompt)[:-1].log_softmax(-1)
    own = expected.gather(1, torch.tensor(prompt[1:])[:, None])
    assert tensors.token_ids.numpy()[:, 1:].tolist() == expected.topk(2).indices.tolist()
    np.testing.assert_allclose(tensors.logprobs.numpy()[:, :1], own, atol=1e-4)


def test_bfloat16_stays_near_the_reference(model: Path, reference: Reference) -> None:
    """Activations of 8 bits of mantissa through two layers: errors of some hundredths."""
    engine = start(model, dequantize=False, dtype="bfloat16")
    tokens = finish(engine, [request("r", PROMPT, max_tokens=20)])["r"].tokens
    expected = reference.logits(PROMPT + tokens[:-1])[len(PROMPT) - 1 :]
    assert engine.runner.activation_dtype is torch.bfloat16
    logits = engine.runner.logits[0].double().cpu()
    assert (logits - expected[-1]).norm() / expected[-1].norm() < 0.03
    margins = expected.amax(-1) - expected.gather(1, torch.tensor(tokens)[:, None])[:, 0]
    assert margins.max() < 0.05 * expected.std()


def test_the_cache_is_sized_by_what_the_weights_leave(model: Path) -> None:
    engine = start(model, kv_cache_memory=None, max_num_seqs=4)
    layout, longest = engine.runner.layout, engine.runner.max_model_len
    assert (layout.num_tokens, longest) == (4 * 256, 256)  # no more than four requests can hold
    with pytest.raises(EngineStartError, match="a KV cache of 0 bytes holds 0 tokens"):
        start(model, kv_cache_memory=None, gpu_memory_utilization=0.001)


def test_a_sleep_that_frees_the_cache_is_refused_by_name(model: Path) -> None:
    engine = start(model)
    with pytest.raises(NotSupported, match="sleep level 1 on a cuda device"):
        engine.sleep(1, "abort")
    assert len(finish(engine, [request("r", PROMPT)])["r"].tokens) == 8


def test_a_cache_in_another_dtype_than_16_bit_activations_is_refused_by_name(model: Path) -> None:
    with pytest.raises(UsageError, match=r"--kv-cache-dtype float32 .* use auto or bfloat16"):
        start(model, dequantize=False, dtype="bfloat16", kv_cache_dtype="float32")
