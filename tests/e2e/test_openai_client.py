# SPDX-License-Identifier: Apache-2.0
"""The official `openai` client against both frontends, on the default model and real answers."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.e2e.conftest import frontend_environment
from tests.e2e.server import Server

MODEL = "SmolLM2-135M-Instruct"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module", params=["python", "rust"])
def client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[openai.OpenAI]:
    environ = frontend_environment(request.param)
    server = Server(tmp_path_factory.mktemp("server"), [MODEL, "--port", "0"], **environ)
    try:
        url = server.wait_ready().url
        yield openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=120)
    finally:
        server.close()


def test_the_default_model_knows_paris(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=QUESTION, temperature=0, max_tokens=32
    )
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason in ("stop", "length")
    usage = answer.usage
    assert usage is not None and usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_a_streamed_chat_is_the_whole_one(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(
        model=MODEL, messages=QUESTION, temperature=0, max_tokens=32
    )
    stream = client.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        temperature=0,
        max_tokens=32,
        stream=True,
        stream_options={"include_usage": True},
    )
    text, reasons, usages = "", [], []
    for chunk in stream:
        usages += [chunk.usage] if chunk.usage else []
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reasons += [choice.finish_reason] if choice.finish_reason else []
    assert text == whole.choices[0].message.content and "Paris" in text
    assert reasons == [whole.choices[0].finish_reason]
    assert usages == [whole.usage]


def test_log_probabilities_name_each_token(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=QUESTION, temperature=0, max_tokens=6, logprobs=True, top_logprobs=3
    )
    choice = answer.choices[0]
    assert choice.logprobs is not None and choice.logprobs.content is not None
    tokens = choice.logprobs.content
    assert len(tokens) == 6 and all(len(token.top_logprobs) == 3 for token in tokens)
    for token in tokens:  # greedy: the chosen token is the most likely one
        assert token.logprob == max(top.logprob for top in token.top_logprobs) <= 0
    raw = b"".join(bytes(token.bytes or []) for token in tokens)
    assert raw.decode() == choice.message.content


def test_three_seeded_choices_differ_and_repeat(client: openai.OpenAI) -> None:
    def ask() -> list[str]:
        answer = client.completions.create(
            model=MODEL, prompt="Once upon a time", n=3, seed=5, temperature=0.9, max_tokens=12
        )
        assert [choice.index for choice in answer.choices] == [0, 1, 2]
        return [choice.text for choice in answer.choices]

    first = ask()
    assert len(set(first)) == 3 and ask() == first


def test_a_stop_string_over_token_borders_ends_the_text(client: openai.OpenAI) -> None:
    free = client.completions.create(model=MODEL, prompt="1 2 3 4", temperature=0, max_tokens=24)
    text = free.choices[0].text
    middle = text[len(text) // 2 - 2 : len(text) // 2 + 2]
    for stream in (False, True):
        answer = client.completions.create(
            model=MODEL,
            prompt="1 2 3 4",
            temperature=0,
            max_tokens=24,
            stop=[middle],
            stream=stream,
        )
        parts = list(answer) if stream else [answer]
        joined = "".join(choice.text for part in parts for choice in part.choices)
        assert joined == text[: text.index(middle)]
        assert parts[-1].choices[0].finish_reason == "stop"


def test_the_models_list_names_the_served_model(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]


def test_errors_arrive_as_the_clients_own_types(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="no-such-model"):
        client.chat.completions.create(model="no-such-model", messages=QUESTION)
    with pytest.raises(openai.BadRequestError, match="temperature"):
        client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=9)
    with pytest.raises(openai.BadRequestError, match="tools"):
        client.chat.completions.create(
            model=MODEL,
            messages=QUESTION,
            tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}],
        )
