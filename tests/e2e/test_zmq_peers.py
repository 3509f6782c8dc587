# SPDX-License-Identifier: Apache-2.0
"""The built frontend's sockets against libzmq, as engines use it, and against hostile bytes.

The engines here are a few lines around ZeroMQ sockets: no model, no handshake.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import zmq

from tests.e2e.conftest import RUST_MISSING, rust_frontend
from tests.e2e.server import PATIENCE_S, wait_for
from vllm.protocol.codec import Encoder, RequestDecoder
from vllm.protocol.handshake import engine_identity
from vllm.protocol.listeners import Listener, listen_ipc, listen_tcp
from vllm.protocol.messages import (
    EngineCoreOutput,
    EngineCoreOutputs,
    EngineCoreReadyResponse,
    EngineCoreRequest,
    FinishReason,
    LogprobsLists,
    RequestType,
)

CONTEXT = 8192
HEARTBEAT_MS = 20
TOKENS = 5
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(16) + bytes(32)
READY = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x02\x07\x00"
HUGE_FRAME = b"\x02" + (256 << 30).to_bytes(8, "big")


class Engine:
    """One engine's sockets; it asks for heartbeats of its own."""

    def __init__(self, context: zmq.Context[Any], index: int, addresses: tuple[str, str]) -> None:
        self.dealer = context.socket(zmq.DEALER)
        self.dealer.setsockopt(zmq.IDENTITY, engine_identity(index))
        self.push = context.socket(zmq.PUSH)
        for sock, address in zip((self.dealer, self.push), addresses, strict=True):
            sock.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
            sock.setsockopt(zmq.HEARTBEAT_TIMEOUT, 100 * HEARTBEAT_MS)
            sock.setsockopt(zmq.LINGER, 0)
            sock.setsockopt(zmq.RCVTIMEO, int(PATIENCE_S * 1000))
            sock.connect(address)
        self.index = index
        self.encoder = Encoder(zero_copy_threshold=1)  # every array in a frame of its own
        self.decoder = RequestDecoder()
        ready = EngineCoreReadyResponse(
            max_model_len=CONTEXT,
            num_gpu_blocks=100,
            block_size=16,
            dtype="bfloat16",
            vllm_version="0.33.0",
            max_num_seqs=8,
            max_num_batched_tokens=CONTEXT,
            instance_id="test",
        )
        self.dealer.send_multipart(self.encoder.encode(ready))

    def next_request(self) -> EngineCoreRequest:
        """The next request; heartbeats before it are not answered."""
        while True:
            kind, message = self.decoder.decode(self.dealer.recv_multipart())
            if kind is RequestType.ADD:
                assert isinstance(message, EngineCoreRequest)
                return message

    def answer(self, request: EngineCoreRequest) -> None:
        """All tokens at once, with log probabilities."""
        rows = np.arange(2 * TOKENS, dtype=np.int32).reshape(TOKENS, 2) + 10
        logprobs = LogprobsLists(rows, -np.ones((TOKENS, 2), np.float32), np.ones(TOKENS, np.int32))
        output = EngineCoreOutput(
            request.request_id,
            rows[:, 0].tolist(),
            new_logprobs=logprobs,
            finish_reason=FinishReason.LENGTH,
        )
        message = EngineCoreOutputs(self.index, outputs=[output], timestamp=1.0)
        self.push.send_multipart(self.encoder.encode(message))


@dataclass
class Frontend:
    http: httpx.Client
    input: Listener
    engines: list[Engine]
    log: Path
    process: subprocess.Popen[bytes]

    def complete(self, prompt: list[int], rank: int) -> dict[str, Any]:
        """A completion answered by the engine of that rank."""
        body = {"prompt": prompt, "max_tokens": TOKENS, "logprobs": 1}
        headers = {"X-data-parallel-rank": str(rank)}
        with ThreadPoolExecutor(1) as pool:
            reply = pool.submit(self.http.post, "/v1/completions", json=body, headers=headers)
            request = self.engines[rank].next_request()
            assert request.prompt_token_ids == prompt
            self.engines[rank].answer(request)
            answer = reply.result(PATIENCE_S)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


@pytest.fixture(params=["ipc", "tcp"])
def frontend(
    request: pytest.FixtureRequest, tiny_model: Path, tmp_path: Path
) -> Iterator[Frontend]:
    binary = rust_frontend()
    if binary is None:
        pytest.skip(RUST_MISSING)
    with contextlib.ExitStack() as stack:
        listen = listen_ipc if request.param == "ipc" else listen_tcp
        web = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        planes = [stack.enter_context(listen()) for _ in range(2)]
        process = stack.enter_context(running(binary, tiny_model, tmp_path / "log", web, planes))
        context = stack.enter_context(zmq.Context())
        addresses = planes[0].address, planes[1].address
        engines = [Engine(context, index, addresses) for index in range(2)]
        stack.callback(context.destroy, linger=0)
        url = f"http://127.0.0.1:{web.getsockname()[1]}"
        http = stack.enter_context(httpx.Client(base_url=url, timeout=PATIENCE_S))
        wait_for(lambda: process.poll() is not None or is_healthy(http), "the frontend's health")
        yield Frontend(http, planes[0], engines, tmp_path / "log", process)


def is_healthy(http: httpx.Client) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return http.get("/health").status_code == 200
    return False


@contextlib.contextmanager
def running(
    binary: Path, model: Path, log: Path, web: socket.socket, planes: list[Listener]
) -> Iterator[subprocess.Popen[bytes]]:
    fds = [web.fileno(), *(plane.fileno() for plane in planes)]
    # These engines answer requests only, so nobody may take their silence for an end.
    arguments = {"model": str(model), "engine_silence_timeout": 0}
    names = ("--listen-fd", "--input-listener-fd", "--output-listener-fd")
    flags = [word for pair in zip(names, map(str, fds), strict=True) for word in pair]
    command = [str(binary), "frontend", *flags, "--engine-count", "2"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--args-json", json.dumps(arguments)],
            stdout=output,
            stderr=output,
            pass_fds=fds,
            env=os.environ,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_long_messages_and_out_of_band_frames_pass_both_ways(frontend: Frontend) -> None:
    for rank, length in ((0, 3), (1, 100), (0, CONTEXT - 100)):
        answer = frontend.complete([5] * length, rank)
        (choice,) = answer["choices"]
        assert choice["finish_reason"] == "length"
        assert choice["logprobs"]["token_logprobs"] == [-1.0] * TOKENS
        assert answer["usage"] == {
            "prompt_tokens": length,
            "completion_tokens": TOKENS,
            "total_tokens": length + TOKENS,
        } | {key: answer["usage"][key] for key in answer["usage"] if key.endswith("_details")}


def test_heartbeats_of_libzmq_are_answered(frontend: Frontend) -> None:
    """A peer that gets no answer to its PINGs in time would disconnect."""
    engine = frontend.engines[0]
    monitors = [sock.get_monitor_socket(zmq.EVENT_DISCONNECTED) for sock in (engine.dealer,)]
    monitors.append(engine.push.get_monitor_socket(zmq.EVENT_DISCONNECTED))
    frontend.complete([1, 2, 3], 0)
    # Longer than the timeout of the heartbeats: waiting for what must not come.
    assert not any(monitor.poll(150 * HEARTBEAT_MS) for monitor in monitors)
    frontend.complete([1, 2, 3], 0)


def test_a_header_of_256_gib_closes_its_connection_and_nothing_else(frontend: Frontend) -> None:
    address = frontend.input.sock.getsockname()
    with socket.socket(frontend.input.sock.family) as hostile:
        hostile.settimeout(PATIENCE_S)
        hostile.connect(address)
        hostile.sendall(GREETING + b"\x04" + bytes([len(READY)]) + READY + HUGE_FRAME)
        with contextlib.suppress(ConnectionResetError):
            while hostile.recv(4096):
                pass
    assert frontend.process.poll() is None
    frontend.complete([1, 2, 3], 0)
    lines = [line for line in frontend.log.read_text().splitlines() if "274877906944" in line]
    assert len(lines) == 1
    assert "limit" in lines[0]
