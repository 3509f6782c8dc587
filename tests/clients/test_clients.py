# SPDX-License-Identifier: Apache-2.0
"""Each client, as published, runs every scenario against the built server and a real model.

A program in `programs/` prints a line of JSON per scenario: what the client made of the answer. It
cancels last and stays alive, so that only the cancelled stream can have told the server.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.clients import environments
from tests.e2e.conftest import frontend_environment
from tests.e2e.server import Server, wait_for

pytestmark = [pytest.mark.download, pytest.mark.clients, pytest.mark.timeout(1200)]

MODEL = "SmolLM2-135M-Instruct"
PROGRAMS = Path(__file__).parent / "programs"
# Nothing of a client's own goes beyond loopback.
QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LANGSMITH_TRACING": "false",
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
}


def _python(program: str, *packages: str) -> list[str]:
    return [str(environments.python(*packages)), str(PROGRAMS / program)]


def _node(program: str, *packages: str) -> list[str]:
    """A module finds its packages beside itself: the program is copied into their folder."""
    if shutil.which("npm") is None:
        pytest.skip("npm and node are not installed, and this client is theirs")
    folder = environments.node(*packages)
    return ["node", shutil.copy(PROGRAMS / program, folder)]


def _curl() -> list[str]:
    return ["bash", str(PROGRAMS / "curl.sh")]


CLIENTS: dict[str, Callable[[], list[str]]] = {
    "openai for Python": lambda: _python("openai_python.py", "openai==3.54.0"),
    "openai for Node": lambda: _node("openai_node.mjs", "openai@7.57.0"),
    "litellm": lambda: _python("litellm_python.py", "litellm==1.106.2"),
    "langchain-openai": lambda: _python("langchain_python.py", "langchain-openai==1.7.4"),
    "ai SDK": lambda: _node("ai_sdk.mjs", "ai@7.0.173", "@ai-sdk/openai-compatible@3.0.92"),
    "curl": _curl,
}


class Run(NamedTuple):
    """What a client told, by scenario, and how many requests the server counts as aborted."""

    told: dict[str, dict[str, Any]]
    aborted: float
    running: float


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the built server with the default model."""
    environ = frontend_environment("rust")
    started = Server(tmp_path_factory.mktemp("server"), [MODEL, "--port", "0"], **environ)
    try:
        yield started.wait_ready().url
    finally:
        started.close()


def _metric(url: str, name: str, *labels: str) -> float:
    """The sum of a metric's samples that carry the labels."""
    text = httpx.get(f"{url}/metrics", timeout=120).text
    lines = re.findall(rf"^{re.escape(name)}(\{{.*\}})? (\S+)$", text, re.MULTILINE)
    return sum(float(value) for named, value in lines if all(label in named for label in labels))


def _aborted(url: str) -> float:
    return _metric(url, "vllm:request_success_total", 'finished_reason="abort"')


def _running(url: str) -> float:
    return _metric(url, "vllm:num_requests_running")


@pytest.fixture(scope="module", params=CLIENTS)
def run(request: pytest.FixtureRequest, server: str, tmp_path_factory) -> Iterator[Run]:
    """One client's run through every scenario, up to the moment after it cancelled."""
    before = _aborted(server)
    log = tmp_path_factory.mktemp("client") / "log"
    command = [*CLIENTS[request.param](), server, MODEL]
    with log.open("wb") as errors:
        client = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=os.environ | QUIET,
            text=True,
        )
    with client:
        try:
            told = _told(client)
            assert "cancel" in told, f"it ended after {list(told)}: {log.read_text()[-3000:]}"
            wait_for(lambda: _aborted(server) > before, "the abort of the cancelled stream")
            wait_for(lambda: _running(server) == 0, "the end of the engine's request")
            assert client.poll() is None, "the client ended: that told the server, not its cancel"
            yield Run(told, _aborted(server) - before, _running(server))
            client.stdin.close()
            assert client.wait(120) == 0, log.read_text()[-3000:]
        finally:
            client.kill()


def _told(client: subprocess.Popen[str]) -> dict[str, dict[str, Any]]:
    """What it prints, up to the scenario that cancels."""
    lines: list[str] = []
    for line in client.stdout:
        lines.append(line.rstrip("\n"))
        if line.startswith("# cancel") or '"scenario": "cancel"' in line.replace('":"', '": "'):
            break
    if lines and lines[0].startswith("# "):
        return _told_by_curl(lines)
    told = map(json.loads, (line for line in lines if line.startswith("{")))
    return {one.pop("scenario"): one for one in told}


def _told_by_curl(lines: list[str]) -> dict[str, dict[str, Any]]:
    sections = re.split(r"^# (\w+)\n", "\n".join(lines) + "\n", flags=re.MULTILINE)[1:]
    told: dict[str, dict[str, Any]] = {}
    for scenario, text in zip(sections[::2], sections[1::2], strict=True):
        told[scenario] = _read_curl(scenario, text.split()[-1], text) if text.strip() else {}
    return told


def _read_curl(scenario: str, status: str, text: str) -> dict[str, Any]:
    if scenario == "stream":
        events = re.findall(r"^data: (.*)$", text, re.MULTILINE)
        assert events.pop() == "[DONE]"
        return _joined([json.loads(event) for event in events])
    answer = json.loads(text.strip().rpartition("\n")[0])
    if scenario == "error":
        return {"status": int(status), "message": answer["error"]["message"]}
    texts = [choice["message"]["content"] for choice in answer["choices"]]
    choice = answer["choices"][0]
    rows = (choice["logprobs"] or {}).get("content", [])
    found = {
        "chat": {"finish": choice["finish_reason"], "tokens": answer["usage"]["completion_tokens"]},
        "logprobs": {
            "text": "".join(row["token"] for row in rows),
            "values": [row["logprob"] for row in rows],
            "widths": [len(row["top_logprobs"]) for row in rows],
        },
        "n": {"texts": texts},
    }
    return {"text": texts[0]} | found[scenario]


def _joined(events: list[dict[str, Any]]) -> dict[str, Any]:
    choices = [choice for event in events for choice in event["choices"]]
    return {
        "text": "".join(choice["delta"].get("content") or "" for choice in choices),
        "finish": choices[-1]["finish_reason"],
        "tokens": events[-1]["usage"]["completion_tokens"],
    }


def test_a_chat_is_answered(run: Run) -> None:
    chat = run.told["chat"]
    assert "Paris" in chat["text"]
    assert chat["finish"] in ("stop", "length") and 0 < chat["tokens"] <= 16


def test_a_stream_says_the_same(run: Run) -> None:
    assert run.told["stream"] == run.told["chat"]


def test_log_probabilities_name_every_token(run: Run) -> None:
    found = run.told["logprobs"]
    # The token that ends the answer has a row and shows no text.
    assert found["text"].startswith(run.told["chat"]["text"])
    assert len(found["values"]) == run.told["chat"]["tokens"]
    assert all(value <= 0 for value in found["values"])
    assert all(width >= 2 for width in found["widths"])


def test_n_choices_are_answered(run: Run) -> None:
    assert run.told["n"]["texts"] == [run.told["chat"]["text"]] * 2


def test_an_error_reaches_the_caller(run: Run) -> None:
    assert run.told["error"]["status"] == 400
    assert "temperature" in run.told["error"]["message"]


def test_a_cancelled_stream_ends_in_the_engine(run: Run) -> None:
    assert (run.aborted, run.running) == (1, 0)
