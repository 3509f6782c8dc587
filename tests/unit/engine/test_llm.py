# SPDX-License-Identifier: Apache-2.0
"""Offline use: texts in, texts out, on a tiny model with a byte tokenizer."""

from __future__ import annotations

import pytest

from tests.exactness.reference import Reference
from tests.models import BOS, EOS, make_llama
from vllm import LLM, SamplingParams
from vllm.errors import ValidationError

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
