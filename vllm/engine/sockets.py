# SPDX-License-Identifier: Apache-2.0
"""The two threads between an engine's loop and its frontends.

Owns the sockets, decoding and encoding. Must not know the scheduler or the model. Neither thread
ends because of a message: one that cannot be read is answered where its sender can be made out, and
logged where not.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any, NamedTuple

import zmq
from zmq.utils.monitor import recv_monitor_message

from vllm import envs
from vllm.errors import RequestError
from vllm.logging import init_logger
from vllm.protocol.codec import (
    MAX_FRAME_BYTES,
    Encoder,
    RequestDecoder,
    recover_call,
    recover_request_id,
    request_type,
)
from vllm.protocol.errors import INTERNAL_ERROR, DecodeError, EncodeError
from vllm.protocol.handshake import engine_identity
from vllm.protocol.messages import (
    ENGINE_CORE_DEAD,
    EngineCoreOutput,
    EngineCoreOutputs,
    EngineCoreReadyResponse,
    RequestType,
    UtilityOutput,
)

logger = init_logger(__name__)

OUTPUT_LINGER_MS = 4000
"""How long the last outputs may take to leave at the end, to frontends that are there."""

RECONNECT_MAX_MS = 5000
"""Longest pause between attempts to reach a frontend that went away."""


class Incoming(NamedTuple):
    """A message of the frontend behind input socket ``client``."""

    client: int
    kind: RequestType
    message: Any


class Outgoing(NamedTuple):
    """A message for one frontend; ``None`` says that the engine dies."""

    client: int
    message: EngineCoreOutputs | None


class InputReader(threading.Thread):
    """Registers the engine with every frontend and puts what they send into ``inbox``."""

    def __init__(
        self,
        context: zmq.Context[Any],
        addresses: Sequence[str],
        engine_index: int,
        inbox: SimpleQueue[Incoming | None],
        outbox: SimpleQueue[Outgoing | None],
    ) -> None:
        super().__init__(name="input", daemon=True)
        self._inbox, self._outbox, self._index = inbox, outbox, engine_index
        self._decoder = RequestDecoder()
        identity = engine_identity(engine_index)
        self._sockets = [_input_socket(context, address, identity) for address in addresses]
        stop_address = f"inproc://input-stop-{id(self)}"
        self._stopped = context.socket(zmq.PAIR)
        self._stopped.bind(stop_address)
        self._stopper = context.socket(zmq.PAIR)
        self._stopper.connect(stop_address)

    def register(self, registration: EngineCoreReadyResponse) -> None:
        """Queue the registration on every input socket; before ``start`` only."""
        frames = Encoder().encode(registration)
        for socket in self._sockets:
            socket.send_multipart(frames)

    def run(self) -> None:
        clients = {socket: client for client, socket in enumerate(self._sockets)}
        poller = zmq.Poller()
        for socket in (*self._sockets, self._stopped):
            poller.register(socket, zmq.POLLIN)
        while True:
            for socket, _ in poller.poll():
                if socket is self._stopped:
                    self._close()
                    return
                self._receive(socket, clients[socket])

    def close(self) -> None:
        """End the thread; nothing is read any more."""
        if self.is_alive():
            self._stopper.send(b"")
            self.join()
        else:
            self._close()
        self._stopper.close(0)

    def _close(self) -> None:
        for socket in (*self._sockets, self._stopped):
            socket.close(0)

    def _receive(self, socket: zmq.Socket[Any], client: int) -> None:
        frames = [frame.buffer for frame in socket.recv_multipart(copy=False)]
        try:
            kind, message = self._decoder.decode(frames)
            self._inbox.put(Incoming(client, kind, message))
        except DecodeError as error:
            self._answer_unreadable(client, frames, error)
        except Exception:
            logger.exception("a message of frontend %d was dropped", client)

    def _answer_unreadable(
        self, client: int, frames: Sequence[memoryview], error: DecodeError
    ) -> None:
        reply = self._failure_reply(frames, error)
        if reply is None:
            logger.warning("a message of frontend %d was dropped: %s", client, error)
            return
        logger.info("a message of frontend %d was refused: %s", client, error)
        self._outbox.put(Outgoing(client, reply))

    def _failure_reply(
        self, frames: Sequence[memoryview], error: DecodeError
    ) -> EngineCoreOutputs | None:
        """The answer to a message that cannot be read, where its sender waits for one."""
        try:
            kind = request_type(frames)
        except DecodeError:
            return None
        if kind is RequestType.ADD:
            request_id = recover_request_id(frames[1])
            if request_id is not None:
                output = EngineCoreOutput.failure(request_id, str(error))
                return EngineCoreOutputs(self._index, [output])
        if kind is RequestType.UTILITY:
            call = recover_call(frames[1])
            if call is not None:
                return EngineCoreOutputs(
                    self._index, utility_output=UtilityOutput(call[1], str(error))
                )
        return None


class OutputWriter(threading.Thread):
    """Sends what the loop puts into ``outbox``; ``None`` ends it."""

    def __init__(
        self,
        context: zmq.Context[Any],
        addresses: Sequence[str],
        outbox: SimpleQueue[Outgoing | None],
    ) -> None:
        super().__init__(name="output", daemon=True)
        self._outbox = outbox
        self._encoder = Encoder(envs.VLLM_MSGPACK_ZERO_COPY_THRESHOLD)
        self._sockets = [context.socket(zmq.PUSH) for _ in addresses]
        self._links = [_Link(socket) for socket in self._sockets]
        for socket, address in zip(self._sockets, addresses, strict=True):
            _connect(socket, address)

    @property
    def client_count(self) -> int:
        return len(self._sockets)

    def run(self) -> None:
        while (item := self._outbox.get()) is not None:
            try:
                self._send(item)
            except Exception:
                logger.exception("an output for frontend %d was lost", item.client)
        self._close(OUTPUT_LINGER_MS)

    def _close(self, linger_ms: int) -> None:
        """Nothing lingers for a frontend that is gone: nobody would take it."""
        for socket, link in zip(self._sockets, self._links, strict=True):
            gone = link.is_lost()
            link.close()
            socket.close(0 if gone else linger_ms)

    def close(self, timeout_s: float) -> None:
        """Send what is queued, then end."""
        if not self.is_alive():
            self._close(0)
            return
        self._outbox.put(None)
        self.join(timeout_s)

    def _send(self, item: Outgoing) -> None:
        socket = self._sockets[item.client]
        if item.message is None:
            socket.send(ENGINE_CORE_DEAD)
            return
        socket.send_multipart(self._encode(item.message), copy=False)

    def _encode(self, message: EngineCoreOutputs) -> list[Any]:
        try:
            return self._encoder.encode(message)
        except EncodeError as error:
            logger.error("an output was replaced by a failure: %s", error)
            return self._encoder.encode(self._writable(message))

    def _writable(self, message: EngineCoreOutputs) -> EngineCoreOutputs:
        """``message`` with failures in place of the parts that cannot be written."""
        if message.utility_output is not None:
            call_id = message.utility_output.call_id
            message.utility_output = UtilityOutput(call_id, "the result has no form on the wire")
        message.outputs = [self._writable_output(output) for output in message.outputs]
        return message

    def _writable_output(self, output: EngineCoreOutput) -> EngineCoreOutput:
        try:
            self._encoder.encode(output)
        except EncodeError as error:
            return EngineCoreOutput.failure(output.request_id, str(error), INTERNAL_ERROR)
        return output


class _Link:
    """Whether a socket's one peer has gone away; to be made before the socket connects."""

    def __init__(self, socket: zmq.Socket[Any]) -> None:
        self._socket = socket
        self._events = socket.get_monitor_socket(zmq.EVENT_CONNECTED | zmq.EVENT_DISCONNECTED)
        self._lost = False

    def is_lost(self) -> bool:
        """True from the end of a connection until the next one; not before the first."""
        while self._events.poll(0):
            self._lost = recv_monitor_message(self._events)["event"] == zmq.EVENT_DISCONNECTED
        return self._lost

    def close(self) -> None:
        self._socket.disable_monitor()
        self._events.close(0)


def request_failure(request_id: str, error: Exception) -> EngineCoreOutput:
    """The output that ends a request because of ``error``; details stay in the log."""
    if isinstance(error, RequestError):
        return EngineCoreOutput.failure(request_id, error.message, error.code, error.retryable)
    return EngineCoreOutput.failure(
        request_id, "the engine could not process the request", INTERNAL_ERROR
    )


def _input_socket(context: zmq.Context[Any], address: str, identity: bytes) -> zmq.Socket[Any]:
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.IDENTITY, identity)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
    return _connect(socket, address)


def _connect(socket: zmq.Socket[Any], address: str) -> zmq.Socket[Any]:
    # Without limits: a slow frontend must not block the engine, and requests are few.
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.IPV6, 1 if "[" in address else 0)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
    socket.connect(address)
    return socket
