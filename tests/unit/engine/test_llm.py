# SPDX-License-Identifier: Apache-2.0
"""Offline use: texts in, texts out, on a tiny model with a byte tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.exactness.reference import Reference
from tests.models import BOS, EOS, make_llama
from vllm import LLM, SamplingParams
from vllm.errors import ValidationError
from vllm.sampling.params import RepetitionDetectionParams

GREEDY = SamplingParams(temperature=0.0, max_tokens=10)


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    folder = make_llama(tmp_path_factory.mktemp("llm"), seed=5)
    return LLM(str(folder), dequantize=True)


def test_generate_equals_the_reference(llm: LLM) -> None:
    (output,) = llm.generate("hello", GREEDY)
    reference = Reference.from_directory(llm.files.path)
    expected = reference.greedy(output.prompt_token_ids, 10)
    assert output.outputs[0].token_ids == expected
    assert output.outputs[0].text == llm.tokenizer.decode(expected, skip_special_tokens=True)
    assert (output.prompt, output.finished) == ("hello", True)
    assert output.outputs[0].finish_reason == "length"


def test_prompts_keep_their_order_and_parameters(llm: LLM) -> None:
    lengths = [3, 1, 5]
    params = [SamplingParams(temperature=0.0, max_tokens=n) for n in lengths]
    outputs = llm.generate(["a", {"prompt_token_ids": [BOS, 7]}, "c"], params)
    assert [len(output.outputs[0].token_ids) for output in outputs] == lengths
    assert outputs[1].prompt is None
    assert outputs[1].prompt_token_ids == [BOS, 7]


def test_chat_renders_the_template(llm: LLM) -> None:
    conversation = [{"role": "user", "content": "hi"}]
    (output,) = llm.chat(conversation, GREEDY)
    text = "<s>user: hi\n<s>assistant: "
    assert output.prompt_token_ids == llm.tokenizer.encode(text, add_special_tokens=False)
    assert len(llm.chat([conversation, conversation], GREEDY)) == 2


def test_stop_string_ends_the_text_before_it(llm: LLM) -> None:
    plain = llm.generate("hello", GREEDY)[0].outputs[0].text
    stop = plain[3:5]
    params = SamplingParams(temperature=0.0, max_tokens=10, stop=[stop])
    choice = llm.generate("hello", params)[0].outputs[0]
    assert choice.text == plain[: plain.index(stop)]
    assert (choice.finish_reason, choice.stop_reason) == ("stop", stop)
    assert not llm.engine.has_work()


def test_several_choices_differ_and_repeat(llm: LLM) -> None:
    params = SamplingParams(temperature=1.5, n=3, seed=4, max_tokens=8)
    first, second = (llm.generate("x", params)[0].outputs for _ in range(2))
    assert [choice.index for choice in first] == [0, 1, 2]
    assert len({tuple(choice.token_ids) for choice in first}) == 3
    assert [c.token_ids for c in first] == [c.token_ids for c in second]


def test_logprobs_are_dictionaries_by_token(llm: LLM) -> None:
    params = SamplingParams(temperature=0.0, max_tokens=3, logprobs=2, prompt_logprobs=1)
    (output,) = llm.generate("abc", params)
    choice = output.outputs[0]
    assert len(choice.logprobs) == 3
    for token, position in zip(choice.token_ids, choice.logprobs, strict=True):
        assert position[token].rank == 1
        assert sorted(entry.rank for entry in position.values()) == [1, 2]
    own = sum(p[t].logprob for p, t in zip(choice.logprobs, choice.token_ids, strict=True))
    assert choice.cumulative_logprob == pytest.approx(own, abs=1e-5)
    assert output.prompt_logprobs[0] is None
    assert len(output.prompt_logprobs) == len(output.prompt_token_ids)


def test_end_of_sequence_is_not_text(llm: LLM) -> None:
    params = SamplingParams(temperature=0.0, max_tokens=4, logit_bias={EOS: 100.0})
    choice = llm.generate("a", params)[0].outputs[0]
    assert (choice.text, choice.token_ids) == ("", [EOS])
    assert (choice.finish_reason, choice.stop_reason) == ("stop", None)


def test_one_refused_prompt_refuses_the_call(llm: LLM) -> None:
    with pytest.raises(ValidationError, match="token 9999"):
        llm.generate([{"prompt_token_ids": [1]}, {"prompt_token_ids": [9999]}], GREEDY)
    assert not llm.engine.has_work()
    with pytest.raises(ValidationError, match="1 prompts, but 2"):
        llm.generate("a", [GREEDY, GREEDY])


def test_prompts_in_every_form_are_the_same_prompt(llm: LLM) -> None:
    ids = llm.tokenizer.encode("hello")
    forms = ["hello", ids, {"prompt": "hello"}, {"prompt_token_ids": ids, "prompt": "hello"}]
    outputs = llm.generate(forms, GREEDY)
    assert [output.prompt_token_ids for output in outputs] == [ids] * 4
    assert len({tuple(output.outputs[0].token_ids) for output in outputs}) == 1
    assert [output.prompt for output in outputs] == ["hello", None, "hello", "hello"]
    (alone,) = llm.generate(ids, GREEDY)
    assert alone.prompt_token_ids == ids
    assert alone.outputs[0].finished()


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (["a", {"multi_modal_data": {}}], "prompt 1: multi_modal_data is not supported; known are"),
        ({"prompt_token_ids": "x"}, "the prompt: prompt_token_ids is 'x', a list of integers"),
        ({"cache_salt": "x"}, "the prompt has neither prompt nor prompt_token_ids"),
        ([3.5], "prompt 0 is 3.5; a text, a list of token ids"),
        (7, "prompts is 7; a prompt or a list of them"),
    ],
)
def test_prompts_that_are_none(llm: LLM, prompts: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        llm.generate(prompts, GREEDY)


def test_priorities_order_what_waits(tmp_path: Path) -> None:
    llm = LLM(str(make_llama(tmp_path)), max_num_seqs=1)
    started: list[str] = []
    step = llm.engine.step

    def watched():
        outputs = step()
        started.extend(o.request_id for o in outputs if o.request_id not in started)
        return outputs

    llm.engine.step = watched
    llm.generate(["a", "b", "c"], GREEDY, priority=[2, 3, 1])
    assert started == ["2-0", "0-0", "1-0"]
    with pytest.raises(ValidationError, match="3 prompts, but 1 priorities"):
        llm.generate(["a", "b", "c"], GREEDY, priority=[1])


def test_cached_tokens_and_salts_are_told(tmp_path: Path) -> None:
    llm = LLM(str(make_llama(tmp_path)))
    prompt = [BOS, *range(40)]

    def cached(**more: str) -> int | None:
        return llm.generate([{"prompt_token_ids": prompt, **more}], GREEDY)[0].num_cached_tokens

    assert [cached(), cached(), cached(cache_salt="other")] == [0, 32, 0]
    llm.reset_prefix_cache()
    assert cached() == 0


def test_progress_is_shown_when_asked_for(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float | str] = []

    class Bar:
        def __init__(self, label: str) -> None:
            told.append(label)

        def update(self, fraction: float) -> None:
            told.append(fraction)

        def close(self) -> None:
            told.append("closed")

    monkeypatch.setattr("vllm.llm.Progress", Bar)
    llm.generate(["a", "b"], [SamplingParams(max_tokens=n, temperature=0.0) for n in (1, 3)])
    assert told[0] == "generating"
    assert told[-2:] == [1.0, "closed"]
    assert 0.5 in told
    told.clear()
    llm.generate("a", GREEDY, use_tqdm=False)
    llm.chat([{"role": "user", "content": "hi"}], GREEDY, False)
    assert told == []


def test_arguments_that_are_not_known_are_named(llm: LLM, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"LLM: pipeline_parallel_size is not supported; known are"):
        LLM(str(make_llama(tmp_path)), pipeline_parallel_size=2)
    with pytest.raises(ValidationError, match="this model generates; to embed, an encoder"):
        llm.embed("x")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"flat_logprobs": True, "logprobs": 1}, "flat_logprobs is True; only False"),
        ({"spaces_between_special_tokens": False}, "spaces_between_special_tokens is False"),
        ({"stop": "x", "detokenize": False}, "detokenize must be True where stop strings"),
    ],
)
def test_forms_that_do_not_exist_are_refused(
    llm: LLM, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        llm.generate("x", SamplingParams(**params))
    assert caught.value.field in params


def test_an_output_that_repeats_says_so(llm: LLM) -> None:
    detection = RepetitionDetectionParams(max_pattern_size=2, min_count=3)
    params = SamplingParams(
        temperature=0.0, max_tokens=20, allowed_token_ids=[65], repetition_detection=detection
    )
    choice = llm.generate("x", params)[0].outputs[0]
    assert (choice.finish_reason, choice.stop_reason) == ("repetition", "repetition_detected")
    assert len(choice.token_ids) == 3
