# SPDX-License-Identifier: Apache-2.0
"""Raw ZeroMQ peers of an engine process: what a frontend and its launcher do, one step at a time.

Waits are bounded: a peer that does not hear what it waits for within ``PATIENCE_S`` fails the test.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import zmq

from vllm.protocol.codec import Decoder, Encoder, OutputsDecoder
from vllm.protocol.handshake import engine_identity
from vllm.protocol.messages import (
    EngineAddresses,
    EngineCoreOutput,
    EngineCoreOutputs,
    EngineCoreReadyResponse,
    EngineCoreRequest,
    EngineHello,
    EngineInit,
    RequestType,
    UtilityOutput,
    UtilityRequest,
)
from vllm.sampling.params import SamplingParams

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
SCRIPTED = [sys.executable, "-m", "tests.wire.scripted_engine"]


def request(
    request_id: str, prompt: list[int] | None = None, client: int = 0, **params: Any
) -> EngineCoreRequest:
    """An ADD of these sampling parameters; the prompt defaults to one token."""
    return EngineCoreRequest(
        request_id,
        [10] if prompt is None else prompt,
        None,
        SamplingParams(**params),
        None,
        0.0,
        None,
        None,
        None,
        client_index=client,
    )


class Frontend:
    """One ROUTER and one PULL, as a frontend has them."""

    def __init__(self, context: zmq.Context[Any], folder: str, index: int = 0) -> None:
        self.index = index
        self.input = context.socket(zmq.ROUTER)
        self.output = context.socket(zmq.PULL)
        self.input_address = f"ipc://{folder}/i{index}"
        self.output_address = f"ipc://{folder}/o{index}"
        self.input.bind(self.input_address)
        self.output.bind(self.output_address)
        self.waiting: list[EngineCoreOutputs] = []
        self.engine = engine_identity(0)

    def registration(self) -> EngineCoreReadyResponse:
        self.engine, payload = receive(self.input)
        return Decoder(EngineCoreReadyResponse).decode([payload])

    def send(self, kind: RequestType, message: Any) -> None:
        self.send_frames(*Encoder().encode_request(kind, message))

    def send_frames(self, *frames: Any) -> None:
        self.input.send_multipart([self.engine, *frames])

    def add(self, request_id: str, prompt: list[int] | None = None, **params: Any) -> None:
        self.send(RequestType.ADD, request(request_id, prompt, self.index, **params))

    def call(self, method: str, *args: Any, call_id: int = 1) -> UtilityOutput:
        """Call a utility and wait for its answer; other messages are kept."""
        self.send(RequestType.UTILITY, UtilityRequest(self.index, call_id, method, list(args)))
        return self.answer(call_id)

    def answer(self, call_id: int) -> UtilityOutput:
        while True:
            message = self.message()
            if message.utility_output is not None and message.utility_output.call_id == call_id:
                return message.utility_output
            self.waiting.append(message)

    def frames(self) -> list[bytes]:
        return receive(self.output)

    def message(self) -> EngineCoreOutputs:
        return OutputsDecoder().decode(self.frames())

    def outputs(self, request_id: str) -> Iterator[EngineCoreOutput]:
        """The outputs of one request until it is finished."""
        while True:
            message = self.waiting.pop(0) if self.waiting else self.message()
            for output in message.outputs:
                if output.request_id == request_id:
                    yield output
                    if output.finished:
                        return

    def result(self, request_id: str) -> tuple[list[int], EngineCoreOutput]:
        """All tokens of a request and its last output."""
        tokens = []
        for output in self.outputs(request_id):
            tokens += output.new_token_ids
        return tokens, output


class EngineUnderTest:
    """An engine process, led through the handshake by the test."""

    def __init__(
        self,
        context: zmq.Context[Any],
        folder: str,
        log: IO[str],
        frontends: int,
        args: dict[str, Any],
    ) -> None:
        self.folder = folder
        self.handshake = context.socket(zmq.ROUTER)
        self.handshake.bind(f"ipc://{folder}/h")
        self.frontends = [Frontend(context, folder, index) for index in range(frontends)]
        self.args = {"handshake": f"ipc://{folder}/h"} | args
        self.process: Any = None
        self.log = log

    def spawn(self, command: list[str] | None = None) -> subprocess.Popen[str]:
        self.process = subprocess.Popen(
            [*(command or SCRIPTED), "--args-json", json.dumps(self.args)],
            cwd=ROOT,
            stderr=self.log,
            text=True,
        )
        return self.process

    def hello(self) -> EngineHello:
        self.identity, payload = receive(self.handshake)
        return Decoder(EngineHello).decode([payload])

    def init(self, **changes: Any) -> None:
        addresses = EngineAddresses(
            inputs=[frontend.input_address for frontend in self.frontends],
            outputs=[frontend.output_address for frontend in self.frontends],
        )
        init = EngineInit(addresses=addresses, **changes)
        self.handshake.send_multipart([self.identity, *Encoder().encode(init)])

    def start(self, command: list[str] | None = None) -> EngineUnderTest:
        """Spawn and pass the whole handshake."""
        self.spawn(command)
        assert self.hello().status == "HELLO"
        self.init()
        for frontend in self.frontends:
            frontend.registration()
        assert self.hello().status == "READY"
        return self

    def end(self) -> str:
        """Wait for the process to end by itself; what it logged."""
        self.process.wait(PATIENCE_S)
        self.log.seek(0)
        return self.log.read()

    def stop(self) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def engine(frontends: int = 1, **args: Any) -> Iterator[EngineUnderTest]:
    """An engine that is not spawned yet, with its sockets; everything is gone afterwards."""
    context: zmq.Context[Any] = zmq.Context()
    # Not pytest's folder: paths of Unix sockets are short.
    # And not a pipe for the log: nobody would empty it, and the engine would wait for that.
    with tempfile.TemporaryDirectory(prefix="w") as folder, tempfile.TemporaryFile("w+") as log:
        under_test = EngineUnderTest(context, folder, log, frontends, args)
        try:
            yield under_test
        finally:
            under_test.stop()
            context.destroy(linger=0)


def receive(socket: zmq.Socket[Any]) -> list[bytes]:
    assert socket.poll(PATIENCE_S * 1000), "nothing was received"
    return socket.recv_multipart()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Look again and again, at most ``PATIENCE_S`` seconds."""
    import time  # noqa: PLC0415

    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
