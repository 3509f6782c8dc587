# SPDX-License-Identifier: Apache-2.0
"""The frontend that upstream released drives our engine process, with a model.

Two ways of starting it: with sockets and handshake led by the test, as a supervisor does, and with
a frontend that leads the handshake itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import zmq

from tests.e2e import upstream
from tests.models import make_llama
from vllm.protocol.handshake import HandshakeOwner, serve_handshake
from vllm.protocol.listeners import listen_ipc
from vllm.protocol.messages import EngineAddresses, EngineInit

pytestmark = [
    pytest.mark.download,
    pytest.mark.skipif(
        not upstream.is_published_for_this_machine(), reason="published for Linux on x86-64 only"
    ),
]

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120.0
MODEL = "tiny"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
ENDLESS = 30_000


@dataclass
class Deployment:
    http: httpx.Client
    engine: subprocess.Popen[bytes]
    engine_log: Path

    def completion(self, **fields: Any) -> httpx.Response:
        body = {"model": MODEL, "prompt": "abc", "max_tokens": 8, "temperature": 0} | fields
        return self.http.post("/v1/completions", json=body)

    def metric(self, name: str) -> float:
        lines = self.http.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"vllm:{name}{{"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("model") / MODEL, max_position_embeddings=32768)


@pytest.fixture(scope="module")
def deployment(model: Path) -> Iterator[Deployment]:
    with supervised(model) as running:
        yield running


@contextlib.contextmanager
def supervised(model: Path) -> Iterator[Deployment]:
    """The test is the supervisor: it opens the sockets and leads the handshake."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="u")))
        data_in = stack.enter_context(listen_ipc(str(folder)))
        data_out = stack.enter_context(listen_ipc(str(folder)))
        web = stack.enter_context(socket.socket())
        web.bind(("127.0.0.1", 0))
        context = stack.enter_context(zmq.Context())
        handshake = stack.enter_context(context.socket(zmq.ROUTER))
        handshake.bind(f"ipc://{folder}/h")
        engine = stack.enter_context(engine_process(model, f"ipc://{folder}/h", folder))
        addresses = EngineAddresses(inputs=[data_in.address], outputs=[data_out.address])
        owner = HandshakeOwner([0], EngineInit(addresses=addresses))
        serve_handshake(handshake, owner, PATIENCE_S, lambda: alive(engine, folder))
        arguments = {"model": str(model), "model_tag": str(model), "served_model_name": [MODEL]}
        command = [
            *("frontend", "--listen-fd", str(web.fileno())),
            *("--input-listener-fd", str(data_in.fileno())),
            *("--output-listener-fd", str(data_out.fileno())),
            *("--engine-count", "1", "--args-json", json.dumps(arguments)),
        ]
        fds = [web.fileno(), data_in.fileno(), data_out.fileno()]
        stack.enter_context(frontend_process(command, folder, fds))
        yield stack.enter_context(reachable(web.getsockname()[1], engine, folder))


@contextlib.contextmanager
def self_led(model: Path) -> Iterator[Deployment]:
    """The frontend leads the handshake on a TCP port; the engine comes to it from outside."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="u")))
        port, rpc_port = free_ports(2)
        command = [
            *("serve", str(model), "--served-model-name", MODEL, "--port", str(port)),
            *("--data-parallel-address", "127.0.0.1", "--data-parallel-rpc-port", str(rpc_port)),
            *("--data-parallel-size", "1", "--data-parallel-size-local", "0"),
        ]
        stack.enter_context(frontend_process(command, folder, []))
        address = f"tcp://127.0.0.1:{rpc_port}"
        engine = stack.enter_context(engine_process(model, address, folder))
        yield stack.enter_context(reachable(port, engine, folder))


@contextlib.contextmanager
def engine_process(model: Path, handshake: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    engine = {"model": str(model), "device": "cpu", "num_threads": 1, "kv_cache_memory": 64 << 20}
    arguments = json.dumps({"handshake": handshake, "engine": engine})
    command = [sys.executable, "-m", "vllm.engine", "--args-json", arguments]
    # Scalar kernels: a token must not depend on what else is in the batch.
    environ = {"VLLM_LOGGING_LEVEL": "DEBUG", "VLLM_CPU_ISA": "scalar"}
    yield from running(command, folder / "engine.log", **environ)


@contextlib.contextmanager
def frontend_process(
    arguments: list[str], folder: Path, fds: list[int]
) -> Iterator[subprocess.Popen[bytes]]:
    command = [str(upstream.binary()), *arguments]
    yield from running(
        command,
        folder / "frontend.log",
        fds,
        VLLM_SERVER_DEV_MODE="1",
        VLLM_RPC_BASE_PATH=str(folder),
    )


def running(
    command: list[str], log: Path, fds: list[int] | None = None, **environ: str
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stderr=output, stdout=output, pass_fds=fds or [], cwd=ROOT,
            env=os.environ | environ,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def reachable(port: int, engine: subprocess.Popen[bytes], folder: Path) -> Iterator[Deployment]:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as client:

        def healthy() -> bool:
            alive(engine, folder)
            with contextlib.suppress(httpx.TransportError):
                return client.get("/health").status_code == 200
            return False

        wait_until(healthy, "the frontend's health")
        yield Deployment(client, engine, folder / "engine.log")


def alive(engine: subprocess.Popen[bytes], folder: Path) -> None:
    assert engine.poll() is None, (folder / "engine.log").read_text()


def wait_until(condition: Any, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]


def events(response: httpx.Response) -> list[dict[str, Any]]:
    """The JSON of every event of a stream that ended as it should."""
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    assert lines[-1] == "[DONE]", response.text
    return [json.loads(line) for line in lines[:-1]]


# -------------------------------------------------------------------------------------------- tests


def test_chat(deployment: Deployment) -> None:
    reply = deployment.http.post("/v1/chat/completions", json=CHAT | {"max_tokens": 8})
    assert reply.status_code == 200, reply.text
    (choice,) = reply.json()["choices"]
    assert choice["finish_reason"] in {"length", "stop"}
    assert reply.json()["usage"]["prompt_tokens"] > 10
    assert 1 <= reply.json()["usage"]["completion_tokens"] <= 8


def test_streamed_completion_with_logprobs(deployment: Deployment) -> None:
    whole = deployment.completion(logprobs=3, max_tokens=16).json()["choices"][0]
    parts = [
        event["choices"][0]
        for event in events(deployment.completion(logprobs=3, max_tokens=16, stream=True))
    ]
    assert "".join(part["text"] for part in parts) == whole["text"]
    streamed = [
        value
        for part in parts
        if part.get("logprobs")
        for value in part["logprobs"]["token_logprobs"]
    ]
    assert len(streamed) == 16
    assert streamed == whole["logprobs"]["token_logprobs"]
    # Greedy: the sampled token is the most likely one. (Entries go by text: bytes of no character
    # share one entry there, which may hold a lower value.)
    for value, top in zip(streamed, whole["logprobs"]["top_logprobs"], strict=True):
        assert max(top.values()) <= value < 0


def test_prompt_logprobs_travel_beside_the_message(deployment: Deployment) -> None:
    """80 positions of 3 columns: far above what is sent inline."""
    prompt = "the quick brown fox jumps over the lazy dog " * 2
    reply = deployment.completion(prompt=prompt, prompt_logprobs=2, max_tokens=1)
    entries = reply.json()["choices"][0]["prompt_logprobs"]
    assert len(entries) == len(prompt)
    assert entries[0] is None
    for entry in entries[1:]:
        ranks = [value["rank"] for value in entry.values()]
        assert {1, 2} <= set(ranks)
        assert all(value["logprob"] < 0 for value in entry.values())


def test_seed_repeats(deployment: Deployment) -> None:
    texts = {
        deployment.completion(seed=7, temperature=1.0, top_p=0.9, max_tokens=12).json()["choices"][
            0
        ]["text"]
        for _ in range(3)
    }
    assert len(texts) == 1


def test_disconnect_aborts_in_the_engine(deployment: Deployment) -> None:
    body = {"model": MODEL, "prompt": "abc", "max_tokens": ENDLESS, "ignore_eos": True}
    with deployment.http.stream("POST", "/v1/completions", json=body | {"stream": True}) as reply:
        lines = reply.iter_lines()  # kept: its end would close the connection
        next(lines)
        wait_until(lambda: deployment.metric("num_requests_running") == 1, "a running request")
    wait_until(lambda: "aborted cmpl-" in deployment.engine_log.read_text(), "the abort")
    wait_until(lambda: deployment.metric("num_requests_running") == 0, "an idle engine")
    assert deployment.completion().status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "answer"),
    [
        ("GET", "/is_sleeping", {"is_sleeping": False}),
        ("POST", "/reset_prefix_cache", {"success": True}),
        ("GET", "/weight_info", {"weight_version": "default"}),
    ],
)
def test_utility(deployment: Deployment, method: str, path: str, answer: Any) -> None:
    reply = deployment.http.request(method, path)
    assert reply.status_code == 200, reply.text
    assert reply.json() == answer


def test_prefix_cache_hits_are_counted(deployment: Deployment) -> None:
    prompt = "a beginning that two requests have in common, " * 4 + "q" * 20
    before = deployment.metric("prefix_cache_hits_total")
    first = deployment.completion(prompt=prompt).json()
    assert deployment.completion(prompt=prompt).json()["choices"] == first["choices"]
    hits = (first["usage"]["prompt_tokens"] - 1) // 16 * 16
    assert hits > 0
    wait_until(
        lambda: deployment.metric("prefix_cache_hits_total") == before + hits, f"{hits} hits"
    )


def test_utility_that_is_not_built_says_so(deployment: Deployment) -> None:
    reply = deployment.http.post("/sleep", params={"level": 2})
    assert reply.status_code >= 400
    assert "sleep level 2" in reply.text


@pytest.mark.parametrize("mode", ["abort", "wait", "keep"])
def test_sleep_and_wake_up(deployment: Deployment, mode: str) -> None:
    expected = deployment.completion().json()["choices"]
    reply = deployment.http.post("/sleep", params={"level": 1, "mode": mode})
    assert reply.status_code == 200, reply.text
    try:
        assert deployment.http.get("/is_sleeping").json() == {"is_sleeping": True}
    finally:
        assert deployment.http.post("/wake_up").status_code == 200
    assert deployment.http.get("/is_sleeping").json() == {"is_sleeping": False}
    assert deployment.completion().json()["choices"] == expected


def test_pause_and_resume(deployment: Deployment) -> None:
    assert deployment.http.post("/pause").status_code == 200
    try:
        assert deployment.http.get("/is_paused").json() == {"is_paused": True}
        assert deployment.completion().status_code == 503
    finally:
        assert deployment.http.post("/resume").status_code == 200
    assert deployment.completion().status_code == 200


def test_request_that_kills_an_engine_of_upstream(deployment: Deployment) -> None:
    """The frontend passes it on unchecked; here it costs only itself."""
    reply = deployment.completion(structured_outputs={"json": True})
    assert reply.status_code == 400
    assert "structured_outputs" in reply.text
    assert deployment.completion().status_code == 200


def test_many_at_once(deployment: Deployment) -> None:
    def text(_: int) -> str:
        return deployment.completion(max_tokens=20).json()["choices"][0]["text"]

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(text, range(16)))) == 1


def test_frontend_that_leads_the_handshake(model: Path) -> None:
    with self_led(model) as running_here:
        reply = running_here.http.post("/v1/chat/completions", json=CHAT | {"max_tokens": 4})
        assert reply.status_code == 200, reply.text
        assert reply.json()["usage"]["completion_tokens"] <= 4
        assert running_here.http.get("/is_sleeping").json() == {"is_sleeping": False}
