# SPDX-License-Identifier: Apache-2.0
"""The start-up exchange HELLO, INIT, READY, from either end.

Owns the order of the messages. Must not know what an engine loads in between, nor processes:
whoever waits passes in a check that raises when waiting makes no sense any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import zmq

from vllm.protocol.codec import Decoder, Encoder
from vllm.protocol.errors import DecodeError, HandshakeError
from vllm.protocol.messages import EngineHello, EngineInit

INIT_TIMEOUT_S = 300.0
"""How long an engine waits for the answer to its HELLO."""
POLL_MS = 100
LINGER_MS = 5000


def engine_identity(index: int) -> bytes:
    """An engine's ZeroMQ identity: its index as two bytes, little-endian."""
    if not 0 <= index < 2**16:
        raise HandshakeError(f"engine index must be from 0 to 65535, got {index}")
    return index.to_bytes(2, "little")


def engine_index(identity: bytes) -> int:
    """The index an identity stands for."""
    if len(identity) != 2:
        raise HandshakeError(f"an engine's identity has 2 bytes, got {len(identity)}")
    return int.from_bytes(identity, "little")


class EngineHandshake:
    """The engine's end: ``hello`` returns INIT, ``ready`` closes the exchange."""

    def __init__(
        self,
        context: zmq.Context[Any],
        address: str,
        index: int,
        *,
        local: bool = True,
        headless: bool = False,
    ) -> None:
        self._address, self._local, self._headless = address, local, headless
        self._socket = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.IDENTITY, engine_identity(index))
        self._linger_ms = 0
        self._socket.setsockopt(zmq.IPV6, 1 if "[" in address else 0)
        try:
            self._socket.connect(address)
        except zmq.ZMQError as error:
            self._socket.close(0)
            raise HandshakeError(f"handshake address {address!r}: {error.strerror}") from error

    def hello(self, timeout_s: float = INIT_TIMEOUT_S) -> EngineInit:
        """Announce the engine and wait for the addresses it shall connect to.

        Raises:
            HandshakeError: no INIT within ``timeout_s`` seconds, or one that cannot be read.
        """
        self._send("HELLO")
        deadline = time.monotonic() + timeout_s
        # In slices: a signal that arrives just before the wait is seen after it.
        while not self._socket.poll(POLL_MS, zmq.POLLIN):
            if time.monotonic() > deadline:
                raise HandshakeError(f"no INIT from {self._address} within {timeout_s:g} s")
        try:
            return Decoder(EngineInit).decode([self._socket.recv()])
        except DecodeError as error:
            raise HandshakeError(f"INIT from {self._address}: {error}") from error

    def ready(self) -> None:
        """Say that the model is loaded; call it after the registration was sent."""
        self._send("READY")
        self._linger_ms = LINGER_MS

    def close(self) -> None:
        """A READY still gets out. A HELLO does not wait for a frontend that may have ended, else an
        engine takes as long to end as its supervisor waits before it kills it.
        """
        self._socket.close(self._linger_ms)

    def _send(self, status: str) -> None:
        hello = EngineHello(status=status, local=self._local, headless=self._headless)
        self._socket.send_multipart(Encoder().encode(hello.to_map()))


class HandshakeOwner:
    """The launcher's end as a state machine without sockets: feed it messages, send its answers."""

    def __init__(self, engine_indices: Iterable[int], init: EngineInit) -> None:
        self._init = bytes(Encoder().encode(init)[0])
        self._decoder = Decoder(EngineHello)
        self.waiting_for_hello = set(engine_indices)
        self.waiting_for_ready = set(self.waiting_for_hello)

    @property
    def done(self) -> bool:
        return not self.waiting_for_ready

    def expect(self, index: int) -> None:
        """Wait for an engine anew, because it is started again."""
        self.waiting_for_hello.add(index)
        self.waiting_for_ready.add(index)

    def receive(self, identity: bytes, payload: bytes) -> bytes | None:
        """Take one message; the result, if any, is to be sent to the same engine.

        Raises:
            HandshakeError: an engine or a status that is not expected now.
        """
        index = engine_index(identity)
        try:
            status = self._decoder.decode([payload]).status
        except DecodeError as error:
            raise HandshakeError(f"handshake of engine {index}: {error}") from error
        if status == "HELLO":
            self._take(index, self.waiting_for_hello, status)
            return self._init
        if status == "READY" and index not in self.waiting_for_hello:
            self._take(index, self.waiting_for_ready, status)
            return None
        raise HandshakeError(f"engine {index} sent the handshake status {status[:32]!r} too early")

    def _take(self, index: int, waiting: set[int], status: str) -> None:
        if index not in waiting:
            raise HandshakeError(f"engine {index} is not expected to send {status} (again)")
        waiting.remove(index)


def serve_handshake(
    socket: zmq.Socket[Any],
    owner: HandshakeOwner,
    timeout_s: float,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Answer engines on a bound ROUTER until all are ready.

    ``check`` is called every 100 ms and raises to give up, for instance when an engine has ended.

    Raises:
        HandshakeError: a message out of order, or not all engines ready within ``timeout_s``.
    """
    deadline = time.monotonic() + timeout_s
    while not owner.done:
        check()
        if time.monotonic() > deadline:
            missing = ", ".join(map(str, sorted(owner.waiting_for_ready)))
            raise HandshakeError(f"engine {missing} was not ready within {timeout_s:g} s")
        if socket.poll(POLL_MS, zmq.POLLIN):
            identity, *frames = socket.recv_multipart()
            answer = owner.receive(identity, frames[-1] if frames else b"")
            if answer is not None:
                socket.send_multipart([identity, answer])
