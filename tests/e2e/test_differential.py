# SPDX-License-Identifier: Apache-2.0
"""The Python frontend is the oracle: the Rust one gives the same answers, request by request.

Two servers of the same model, each request sent to both. Ids and times are set apart; so is where
in a malformed body the fault was noticed, which is the JSON reader's business. A stream is folded
before it is compared (how many tokens come in one event depends on timing) and must fold to the
whole answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import RUST_MISSING, frontend_environment, rust_frontend
from tests.e2e.differential_corpus import CORPUS, MODEL, VALID, Case
from tests.e2e.server import Server

# Scalar kernels give the same numbers whatever else is in a batch.
ENVIRONMENT = {"VLLM_CPU_ISA": "scalar"}
CHOICE_FIELDS = (
    "finish_reason",
    "stop_reason",
    "token_ids",
    "prompt_token_ids",
    "prompt_logprobs",
    "logprobs",
)
SET_APART = ("id", "created")
_POSITION = re.compile(r" \(line \d+, column \d+\)")
_READERS_VERDICT = re.compile(r"The request body (ends too early|is not valid JSON)")


@dataclass
class Answer:
    """What a client got: status, headers that mean something, and the body with ids set apart."""

    status: int
    headers: dict[str, str | None]
    body: Any


def ask(client: httpx.Client, case: Case) -> Answer:
    response = client.request(case.method, case.path, content=case.body, headers=list(case.headers))
    headers = {name: response.headers.get(name) for name in ("content-type", "allow")}
    text = response.text
    if text.startswith("data: "):
        return Answer(response.status_code, headers, fold(events_of(text)))
    return Answer(response.status_code, headers, stable(json.loads(text)) if text else "")


def stable(value: Any) -> Any:
    """Without ids, times and positions."""
    if isinstance(value, dict):
        return {k: stable(v) for k, v in value.items() if k not in SET_APART or v == MODEL}
    if isinstance(value, list):
        return [stable(item) for item in value]
    if isinstance(value, str) and _READERS_VERDICT.match(value):
        return _READERS_VERDICT.sub("The request body ...", _POSITION.sub("", value))
    return value


def events_of(text: str) -> list[Any]:
    """The events of a stream, which ends with [DONE] or with an error."""
    parts = [part.removeprefix("data: ") for part in text.split("\n\n") if part]
    assert parts[-1] == "[DONE]" or '"error"' in parts[-1]
    return [json.loads(part) for part in parts if part != "[DONE]"]


def fold(events: list[Any]) -> dict[str, Any]:
    """The whole answer that a stream amounts to."""
    assert len({event.get("id") for event in events}) == 1
    folded: dict[str, Any] = {"choices": {}}
    for event in events:
        for name in ("model", "object", "usage", "prompt_token_ids", "prompt_logprobs", "error"):
            if name in event:
                folded[name] = event[name]
        for part in event.get("choices", []):
            fold_choice(folded["choices"].setdefault(part["index"], {}), part)
    folded["choices"] = [folded["choices"][index] for index in sorted(folded["choices"])]
    return folded


def fold_choice(choice: dict[str, Any], part: dict[str, Any]) -> None:
    assert choice.get("finish_reason") is None, "a choice goes on after its end"
    delta = part.get("delta", {})
    if "role" in delta:
        assert not choice, "the role comes first, once"
        choice["role"] = delta["role"]
    text = delta.get("content", part.get("text", ""))
    choice["text"] = choice.get("text", "") + text
    for name in ("finish_reason", "stop_reason"):
        if part.get(name) is not None:
            choice[name] = part[name]
    if "prompt_logprobs" in part:
        assert "prompt_logprobs" not in choice, "they come once"
        choice["prompt_logprobs"] = part["prompt_logprobs"]
    for name in ("token_ids", "prompt_token_ids"):
        if name in part:
            choice[name] = choice.get(name, []) + part[name]
    for name, values in (part.get("logprobs") or {}).items():
        lists = choice.setdefault("logprobs", {})
        lists[name] = lists.get(name, []) + values


def as_folded(body: dict[str, Any]) -> dict[str, Any]:
    """A whole answer in the form that `fold` gives."""
    choices = []
    for part in body["choices"]:
        choice: dict[str, Any] = {"text": part.get("text", "")}
        if "message" in part:
            choice |= {"role": part["message"]["role"], "text": part["message"]["content"]}
        for name in CHOICE_FIELDS:
            if part.get(name) is not None:
                choice[name] = part[name]
        choices.append(choice)
    folded = {"choices": choices, "model": body["model"], "usage": body["usage"]}
    return folded | {k: body[k] for k in ("prompt_token_ids", "prompt_logprobs") if k in body}


def answers_of(server: Server) -> dict[str, Answer]:
    with httpx.Client(base_url=server.wait_ready().url, timeout=120) as client:
        return {case.name: ask(client, case) for case in CORPUS}


@pytest.fixture(scope="module")
def answers(
    tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, dict[str, Answer]]]:
    """The corpus answered by each frontend that is there."""
    kinds = ["python"] + (["rust"] if rust_frontend() is not None else [])
    marks = '{"reasoning_start_str": "<t>", "reasoning_end_str": "</t>"}'
    arguments = [str(tiny_model), "--port", "0", "--served-model-name", MODEL]
    arguments += ["--reasoning-config", marks]
    servers = [
        Server(
            tmp_path_factory.mktemp(kind), arguments, **ENVIRONMENT, **frontend_environment(kind)
        )
        for kind in kinds
    ]
    try:
        with ThreadPoolExecutor(len(servers)) as pool:
            yield dict(zip(kinds, pool.map(answers_of, servers), strict=True))
    finally:
        for server in servers:
            server.close()


def test_the_corpus_is_large_and_names_are_unique() -> None:
    assert len(CORPUS) >= 200
    assert len({case.name for case in CORPUS}) == len(CORPUS)


def test_the_oracle_serves_what_is_valid_and_refuses_the_rest(
    answers: dict[str, dict[str, Answer]],
) -> None:
    found = answers["python"]
    for case in CORPUS:
        status = found[case.name].status
        if case.generates or case.name.endswith("-stream"):
            assert status == 200, (case.name, found[case.name])
        assert status < 500 or status == 501, (case.name, found[case.name])
        if case.name.startswith(("wrong-", "malformed-")):
            assert status in (400, 404), (case.name, found[case.name])
            assert found[case.name].body["error"]["message"]


@pytest.mark.parametrize("kind", ["python", "rust"])
def test_limits_on_repetition_and_thoughts_are_kept(
    answers: dict[str, dict[str, Answer]], kind: str
) -> None:
    if kind not in answers:
        pytest.skip(RUST_MISSING)
    (choice,) = answers[kind]["completion-repeats"].body["choices"]
    told = (choice["text"], choice["finish_reason"], choice["stop_reason"])
    assert told == ("b" * 4, "repetition", "repetition_detected")
    (choice,) = answers[kind]["completion-thought-closed"].body["choices"]
    assert "</t>" in choice["text"]
    (plain,) = answers[kind]["completion-thought-not-begun"].body["choices"]
    assert "</t>" not in plain["text"]


@pytest.mark.parametrize("kind", ["python", "rust"])
def test_what_is_streamed_equals_what_is_not(
    answers: dict[str, dict[str, Answer]], kind: str
) -> None:
    if kind not in answers:
        pytest.skip(RUST_MISSING)
    for case in VALID:
        whole, streamed = answers[kind][case.name], answers[kind][case.name + "-stream"]
        folded = {k: v for k, v in streamed.body.items() if k != "object"}
        assert folded == as_folded(whole.body), case.name


def test_both_frontends_answer_alike(answers: dict[str, dict[str, Answer]]) -> None:
    if "rust" not in answers:
        pytest.skip(RUST_MISSING)
    python, rust = answers["python"], answers["rust"]
    different = [
        f"{case.name}\n  python {python[case.name]}\n  rust   {rust[case.name]}"
        for case in CORPUS
        if python[case.name] != rust[case.name]
    ]
    assert not different, f"{len(different)} of {len(CORPUS)} differ:\n" + "\n".join(different)
