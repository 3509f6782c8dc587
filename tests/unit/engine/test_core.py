# SPDX-License-Identifier: Apache-2.0
"""`EngineCore` on a tiny random model: what goes in, what comes out, and who gets told what."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from tests.exactness.reference import Reference
from tests.models import BOS, make_llama
from tests.unit.engine.drive import finish, request
from vllm.config.engine import EngineConfig
from vllm.engine.core import EngineCore
from vllm.errors import EngineStartError, NotSupported, RequestError
from vllm.protocol.messages import EngineCoreRequest, EventType, FinishReason, LoRARequest
from vllm.sampling.params import SamplingParams, StructuredOutputsParams

PROMPT = [BOS, 10, 20, 30, 40]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("tiny"), seed=3)


@pytest.fixture(scope="module")
def reference(model: Path) -> Reference:
    return Reference.from_directory(model)


def start(model: Path, **config: Any) -> EngineCore:
    return EngineCore(EngineConfig(str(model), dequantize=True, **config))


@pytest.fixture(scope="module")
def engine(model: Path) -> EngineCore:
    return start(model)


def one(engine: EngineCore, **params: Any) -> Any:
    return finish(engine, [request("r", PROMPT, **params)])["r"]


# ----------------------------------------------------------------------------------------- tokens


def test_greedy_tokens_equal_the_reference(engine: EngineCore, reference: Reference) -> None:
    assert one(engine, max_tokens=30).tokens == reference.greedy(PROMPT, 30)


def test_schedule_does_not_change_tokens(model: Path, engine: EngineCore) -> None:
    prompts = [[BOS, *range(5 * i, 5 * i + 3 + 7 * i)] for i in range(6)]
    requests = [request(str(i), prompt, max_tokens=20) for i, prompt in enumerate(prompts)]
    alone = {}
    for each in requests:
        alone |= finish(engine, [each])
    together = finish(engine, requests)
    chunked = finish(start(model, max_num_batched_tokens=6, max_num_seqs=4), requests)
    for name, expected in alone.items():
        assert together[name].tokens == expected.tokens
        assert chunked[name].tokens == expected.tokens


def test_preempted_requests_go_on_where_they_were(model: Path) -> None:
    block = 4 * 2 * 2 * 2 * 16 * 4  # tokens, keys and values, layers, KV heads, head size, f32
    crowded = start(model, block_size=4, max_model_len=48, kv_cache_memory=14 * block)
    # A random prompt and random sampling: any state lost in a preemption would show.
    requests = [
        request(
            str(i),
            [BOS, i, i + 1, i + 2],
            max_tokens=40,
            temperature=1.0,
            seed=i,
            repetition_penalty=1.2,
            frequency_penalty=0.3,
        )
        for i in range(4)
    ]
    results = finish(crowded, requests)
    assert crowded.scheduler.num_preemptions > 0
    roomy = start(model, block_size=4, max_model_len=48)
    expected = finish(roomy, requests)
    assert roomy.scheduler.num_preemptions == 0
    assert {k: r.tokens for k, r in results.items()} == {k: r.tokens for k, r in expected.items()}
    kinds = [e.type for r in results.values() for o in r.outputs for e in o.events or ()]
    assert EventType.PREEMPTED in kinds


def test_seeded_sampling_does_not_depend_on_company(engine: EngineCore) -> None:
    wanted = {"temperature": 1.0, "seed": 7, "max_tokens": 12, "top_p": 0.9}
    alone = one(engine, **wanted).tokens
    company = [request(str(i), [BOS, i], temperature=1.0, seed=i) for i in range(5)]
    results = finish(engine, [*company, request("r", PROMPT, **wanted)])
    assert results["r"].tokens == alone
    assert one(engine, **wanted | {"seed": 8}).tokens != alone
    assert one(engine, **wanted | {"seed": -7}).tokens != alone


def test_seeds_do_not_depend_on_chunks_rows_and_preemption(model: Path, engine: EngineCore) -> None:
    prompts = [[BOS, *range(i, i + 4 + 5 * i)] for i in range(5)]
    requests = [
        request(str(i), prompt, temperature=1.3, seed=i, max_tokens=20, top_k=50)
        for i, prompt in enumerate(prompts)
    ]
    alone = {}
    for each in requests:
        alone |= {name: result.tokens for name, result in finish(engine, [each]).items()}
    block = 4 * 2 * 2 * 2 * 16 * 4  # tokens, keys and values, layers, KV heads, head size, f32
    crowded = {"block_size": 4, "max_model_len": 64, "kv_cache_memory": 16 * block}
    for config in ({"max_num_batched_tokens": 6, "max_num_seqs": 4}, crowded):
        other = start(model, **config)
        for order in (requests, requests[::-1]):
            results = finish(other, order)
            assert {name: result.tokens for name, result in results.items()} == alone
    assert other.scheduler.num_preemptions > 0


def test_requests_without_a_seed_differ(engine: EngineCore) -> None:
    drawn = [one(engine, temperature=2.0, max_tokens=10).tokens for _ in range(2)]
    assert drawn[0] != drawn[1]


# ---------------------------------------------------------------------------------------- stopping


def test_eos_ends_without_a_stop_reason(engine: EngineCore, reference: Reference) -> None:
    third = reference.greedy(PROMPT, 3)[2]
    result = one(engine, _eos_token_id=third)
    assert result.tokens == reference.greedy(PROMPT, 3)
    assert (result.last.finish_reason, result.last.stop_reason) == (FinishReason.STOP, None)
    assert len(one(engine, _eos_token_id=third, ignore_eos=True).tokens) == 8


def test_stop_token_is_the_stop_reason(engine: EngineCore, reference: Reference) -> None:
    second = reference.greedy(PROMPT, 2)[1]
    result = one(engine, stop_token_ids=[second])
    assert result.tokens[-1] == second
    assert (result.last.finish_reason, result.last.stop_reason) == (FinishReason.STOP, second)


def test_min_tokens_bans_stop_tokens(engine: EngineCore, reference: Reference) -> None:
    first = reference.greedy(PROMPT, 1)[0]
    result = one(engine, stop_token_ids=[first], min_tokens=3)
    assert first not in result.tokens[:3]
    assert len(result.tokens) >= 4 or result.tokens[-1] == first


def test_length_limits(model: Path, engine: EngineCore) -> None:
    result = one(engine, max_tokens=1)
    assert len(result.tokens) == 1
    assert result.last.finish_reason is FinishReason.LENGTH
    short = start(model, max_model_len=12)
    assert len(one(short, max_tokens=None).tokens) == 12 - len(PROMPT)


def test_bad_words_and_allowed_tokens(engine: EngineCore, reference: Reference) -> None:
    plain = reference.greedy(PROMPT, 4)
    banned = one(engine, _bad_words_token_ids=[[plain[0]], plain[1:3]], max_tokens=20).tokens
    assert plain[0] not in banned
    assert tuple(plain[1:3]) not in pairwise(banned)
    banned = one(engine, _bad_words_token_ids=[plain[:2]], max_tokens=2).tokens
    assert banned[0] == plain[0]
    assert banned[1] != plain[1]
    allowed = one(engine, allowed_token_ids=[5, 6, 7], max_tokens=20).tokens
    assert set(allowed) <= {5, 6, 7}
    assert one(engine, logit_bias={123: 100.0}).tokens == [123] * 8


@pytest.mark.parametrize("seed", range(3))
def test_all_rules_hold_at_once(engine: EngineCore, seed: int) -> None:
    rules = {
        "allowed_token_ids": [5, 6, 7, 8, 9],
        "bad_words": ["x"],
        "_bad_words_token_ids": [[5, 6], [6, 6, 5], [7]],
        "stop_token_ids": [8],
        "min_tokens": 10,
    }
    tokens = one(engine, **rules, temperature=2.0, seed=seed, max_tokens=40).tokens
    assert set(tokens) <= {5, 6, 8, 9}
    assert 8 not in tokens[:10]
    text = " ".join(map(str, tokens))
    assert "5 6" not in text
    assert "6 6 5" not in text


# ---------------------------------------------------------------------------------------- logprobs


def test_logprobs_and_ranks(engine: EngineCore, reference: Reference) -> None:
    result = one(engine, logprobs=3, temperature=1.5, seed=1, max_tokens=6)
    expected = reference.logits(PROMPT + result.tokens[:-1])[len(PROMPT) - 1 :].log_softmax(-1)
    for token, output, row in zip(result.tokens, result.outputs, expected, strict=True):
        lists = output.new_logprobs
        assert lists.token_ids.shape == lists.logprobs.shape == (1, 4)
        assert lists.token_ids[0, 0] == token
        best = row.topk(3)
        assert lists.token_ids[0, 1:].tolist() == best.indices.tolist()
        np.testing.assert_allclose(lists.logprobs[0, 0], row[token], atol=1e-4)
        np.testing.assert_allclose(lists.logprobs[0, 1:], best.values, atol=1e-4)
        assert lists.sampled_token_ranks.tolist() == [1 + int((row > row[token]).sum())]


def test_logprobs_zero_and_given_ids(engine: EngineCore, reference: Reference) -> None:
    results = finish(
        engine,
        [
            request("zero", PROMPT, logprobs=0, max_tokens=1),
            request("ids", PROMPT, logprob_token_ids=[9, 8], max_tokens=1),
            request("none", PROMPT, max_tokens=1),
        ],
    )
    assert results["zero"].last.new_logprobs.token_ids.shape == (1, 1)
    assert results["none"].last.new_logprobs is None
    row = reference.logits(PROMPT)[-1].log_softmax(-1)
    lists = results["ids"].last.new_logprobs
    assert lists.token_ids[0].tolist() == [int(row.argmax()), 9, 8]
    np.testing.assert_allclose(lists.logprobs[0, 1:], row[[9, 8]], atol=1e-4)


def test_all_logprobs(model: Path) -> None:
    result = one(start(model, max_logprobs=-1), logprobs=-1, max_tokens=1)
    lists = result.last.new_logprobs
    assert lists.token_ids.shape == (1, 261)
    assert sorted(lists.token_ids[0, 1:].tolist()) == list(range(260))
    assert np.exp(lists.logprobs[0, 1:].astype(np.float64)).sum() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("budget", [2048, 7])
def test_prompt_logprobs(model: Path, reference: Reference, budget: int) -> None:
    engine = start(model, max_num_batched_tokens=budget, max_num_seqs=4)
    prompt = [BOS, *range(30, 60)]
    result = finish(engine, [request("r", prompt, prompt_logprobs=2), request("x", [1])])["r"]
    assert all(output.new_prompt_logprobs_tensors is None for output in result.outputs[1:])
    tensors = result.outputs[0].new_prompt_logprobs_tensors
    expected = reference.logits(prompt)[:-1].log_softmax(-1)
    ids, logprobs = tensors.token_ids.numpy(), tensors.logprobs.numpy()
    assert ids[:, 0].tolist() == prompt[1:]
    assert ids[:, 1:].tolist() == expected.topk(2).indices.tolist()
    own = expected.gather(1, torch.tensor(prompt[1:])[:, None])
    np.testing.assert_allclose(logprobs[:, :1], own, atol=1e-4)
    ranks = tensors.selected_token_ranks.numpy()
    assert ranks.tolist() == (1 + (expected > own).sum(-1)).tolist()


# ------------------------------------------------------------------------------------------- policy


def order_of_ends(engine: EngineCore, priorities: list[int]) -> list[str]:
    for index, priority in enumerate(priorities):
        asked = request(str(index), PROMPT, max_tokens=1)
        asked.priority = priority
        engine.add_request(asked)
    return list(finish(engine))


def test_priority_policy_serves_lower_numbers_first(model: Path) -> None:
    engine = start(model, max_num_seqs=1)
    assert order_of_ends(engine, [0, 5, -3, 0, -3]) == ["2", "4", "0", "3", "1"]


def test_fcfs_policy_refuses_priorities_by_name(model: Path) -> None:
    engine = start(model, max_num_seqs=1, scheduling_policy="fcfs")
    assert order_of_ends(engine, [0, 0, 0]) == ["0", "1", "2"]
    with pytest.raises(RequestError, match=r"priority is -1; .* --scheduling-policy priority"):
        order_of_ends(engine, [-1])


# -------------------------------------------------------------------------------- events, lifecycle


def test_first_output_carries_events_and_prefill_stats(engine: EngineCore) -> None:
    result = one(engine)
    first = result.outputs[0]
    assert [event.type for event in first.events] == [EventType.QUEUED, EventType.SCHEDULED]
    assert first.events[0].timestamp <= first.events[1].timestamp
    assert msgspec.structs.asdict(first.prefill_stats) == {
        "num_prompt_tokens": 5,
        "num_computed_tokens": 5,
        "num_cached_tokens": 0,
        "num_local_cached_tokens": 0,
        "num_external_cached_tokens": 0,
        "num_cache_creation_tokens": 0,
    }
    assert all(o.events is None and o.prefill_stats is None for o in result.outputs[1:])


def test_stats_follow_the_requests(model: Path) -> None:
    engine = start(model, max_num_seqs=2)
    for i in range(5):
        engine.add_request(request(str(i), PROMPT, max_tokens=20))
    engine.step()
    stats = engine.stats()
    assert (stats.num_running_reqs, stats.num_waiting_reqs) == (2, 3)
    assert stats.kv_cache_usage > 0
    finish(engine)
    assert engine.stats().kv_cache_usage == 0.0


def test_abort_while_waiting_and_while_running(model: Path) -> None:
    engine = start(model, max_num_seqs=1)
    for name in ("runs", "waits", "stays"):
        engine.add_request(request(name, PROMPT))
    engine.step()
    engine.abort_requests(["runs", "waits", "unknown"])
    results = finish(engine)
    assert set(results) == {"stays"}
    assert len(results["stays"].tokens) == 8
    assert engine.requests == {}
    finish(engine, [request("runs", PROMPT)])  # the id is free again


def test_abort_immediately_is_told(engine: EngineCore) -> None:
    asked = request("gone", PROMPT)
    asked.abort_immediately = True
    result = finish(engine, [asked])["gone"]
    assert result.tokens == []
    assert result.last.finish_reason is FinishReason.ABORT


def test_a_length_that_the_cache_cannot_hold_is_refused_in_one_line(model: Path) -> None:
    token = 2 * 2 * 2 * 16 * 4  # keys and values, layers, KV heads, head size, f32
    with pytest.raises(EngineStartError) as caught:
        start(model, max_model_len=200, kv_cache_memory=100 * token)
    words = f"holds 96 tokens of {token} bytes, one request of 200 tokens does not fit"
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(EngineStartError, match=r"max_model_len is 300, .* 256 positions"):
        start(model, max_model_len=300)
    assert start(model, kv_cache_memory=100 * token).limits.max_model_len == 96


def test_registration_describes_the_engine(engine: EngineCore) -> None:
    ready = engine.registration()
    assert ready.max_model_len == 256
    assert ready.dtype == "float32"
    assert ready.kv_cache_size_tokens == ready.num_gpu_blocks * ready.block_size
    assert ready.instance_id


# ---------------------------------------------------------------------------------------- utilities


def test_utilities_answer_or_name_themselves(engine: EngineCore) -> None:
    assert engine.get_supported_tasks() == ["generate"]
    assert engine.reset_prefix_cache(False, False) is True
    assert engine.get_weight_version() == "default"
    for name in ("release_kv_cache_memory", "profile", "add_lora", "collective_rpc"):
        with pytest.raises(NotSupported, match=name):
            getattr(engine, name)(1, "abort")


# ------------------------------------------------------------------------------------------ refusal


@pytest.mark.parametrize(
    ("prompt", "params", "message"),
    [
        ([], {}, "prompt_token_ids is \\[\\]"),
        ([260], {}, "prompt_token_ids contains token 260; the model has tokens 0 to 259"),
        ([1, -1], {}, "contains token -1"),
        ([1] * 256, {}, "has 256 tokens; .* max_model_len = 256"),
        ([1], {"logprobs": 21}, "logprobs is 21; this server gives at most 20"),
        ([1], {"logprobs": -1}, "logprobs is -1"),
        ([1], {"prompt_logprobs": 21}, "prompt_logprobs is 21"),
        ([1], {"logprob_token_ids": [260]}, "logprob_token_ids contains token 260"),
        ([1], {"logit_bias": {999: 1.0}}, "logit_bias contains token 999"),
        ([1], {"logit_bias": {9: float("nan")}}, r"logit_bias\[9\] is nan"),
        ([1], {"logit_bias": {9: -1e300}}, r"logit_bias\[9\] is -1e\+300; .* 32 bits"),
        ([1], {"repetition_penalty": 1e300}, r"repetition_penalty is 1e\+300; .* 32 bits"),
        ([1], {"allowed_token_ids": []}, "allowed_token_ids is \\[\\]"),
        ([1], {"allowed_token_ids": [-5]}, "allowed_token_ids contains token -5"),
        (
            [1],
            {"allowed_token_ids": [7], "min_tokens": 2, "stop_token_ids": [7]},
            "min_tokens can forbid each of them",
        ),
        (
            [1],
            {"allowed_token_ids": [7], "bad_words": ["x"], "_bad_words_token_ids": [[7], [1, 2]]},
            "bad_words or min_tokens can forbid",
        ),
        (
            [1],
            {
                "allowed_token_ids": [7, 8],
                "_bad_words_token_ids": [[7, 7]],
                "min_tokens": 2,
                "stop_token_ids": [8],
            },
            "bad_words or min_tokens can forbid",
        ),
        ([1], {"_bad_words_token_ids": [[]]}, "bad_words"),
        ([1], {"_bad_words_token_ids": [[1, 300]]}, "bad_words contains token 300"),
        ([1], {"bad_words": ["x"]}, "bad_words is \\['x'\\]"),
        ([1], {"structured_outputs": StructuredOutputsParams(regex="a")}, "structured_outputs"),
        ([1], {"thinking_token_budget": 5}, "thinking_token_budget is 5"),
        ([1], {"prompt_logprob_start": 0}, "prompt_logprob_start is 0"),
    ],
)
def test_bad_requests_are_refused_by_name(
    engine: EngineCore, prompt: list[int], params: dict[str, Any], message: str
) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        engine.add_request(request("bad", prompt, **params))
    assert caught.value.code == "validation_error"
    assert "bad" not in engine.requests
    assert not engine.has_work()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("lora_request", LoRARequest("a", 1, "/p"), "LoRA is not supported"),
        ("mm_features", [], "multimodal input is not supported"),
        ("resumable", True, "streaming input is not supported"),
        ("prompt_is_token_ids", [True, False], "prompt embeddings are not supported"),
        ("sampling_params", None, "sampling parameters are needed"),
    ],
)
def test_unsupported_requests_are_refused_by_name(
    engine: EngineCore, field: str, value: Any, message: str
) -> None:
    asked = request("bad", PROMPT)
    setattr(asked, field, value)
    with pytest.raises(RequestError, match=message):
        engine.add_request(asked)


def test_duplicate_id_is_refused_and_the_first_lives_on(model: Path) -> None:
    engine = start(model)
    engine.add_request(request("r", PROMPT))
    with pytest.raises(RequestError, match="request_id is 'r'"):
        engine.add_request(request("r", PROMPT))
    assert len(finish(engine)["r"].tokens) == 8


def _random_request(rng: random.Random, name: str) -> EngineCoreRequest:
    """Parameters of every kind, most of them legal, some of them not."""
    ids = lambda n: [rng.randrange(-1, 262) for _ in range(n)]  # noqa: E731
    params = SamplingParams(
        temperature=rng.choice([0.0, 0.3, 1.0, 2.0]),
        top_p=rng.choice([1.0, 0.01, 0.5]),
        top_k=rng.choice([-1, 0, 1, 5, 10_000]),
        min_p=rng.choice([0.0, 0.5, 1.0]),
        repetition_penalty=rng.choice([1.0, 0.001, 1e6]),
        frequency_penalty=rng.choice([0.0, -2.0, 2.0]),
        presence_penalty=rng.choice([0.0, -2.0, 2.0]),
        seed=rng.choice([None, 0, -1, 2**64 - 1]),
        max_tokens=rng.choice([1, 5, None]),
        min_tokens=rng.choice([0, 1]),
        logprobs=rng.choice([None, 0, 3, 20]),
        prompt_logprobs=rng.choice([None, None, 0, 4]),
        logit_bias=rng.choice([None, {i: -100.0 for i in ids(3)}]),
        allowed_token_ids=rng.choice([None, None, ids(2)]),
        stop_token_ids=ids(rng.randrange(3)),
        _bad_words_token_ids=rng.choice([None, [ids(2)]]),
    )
    asked = request(name, ids(rng.randrange(0, 40)))
    asked.sampling_params = params
    asked.priority = rng.randrange(-(2**40), 2**40)
    return asked


@pytest.mark.parametrize("seed", range(4))
def test_random_requests_are_served_or_refused(model: Path, seed: int) -> None:
    rng = random.Random(seed)
    engine = start(model, max_num_seqs=5, max_num_batched_tokens=32, max_model_len=64)
    served, ended = set(), set()
    for number in range(150):
        asked = _random_request(rng, str(number))
        try:
            engine.add_request(asked)
            served.add(asked.request_id)
        except RequestError:
            pass
        if rng.random() < 0.1 and served:
            victim = rng.choice(sorted(served))
            engine.abort_requests([victim])
            ended.add(victim)
        for output in engine.step():
            assert all(0 <= token < 260 for token in output.new_token_ids)
            if output.finished:
                ended.add(output.request_id)
        engine.scheduler.kv_cache.check_integrity()
    ended |= {name for name, result in finish(engine).items() if result.last.finished}
    assert served == ended
    assert len(served) > 15
    assert sorted(engine.runner.inputs._free_rows) == list(range(5))
    assert not engine.runner.prompt_logprobs
    assert engine.requests == {}
