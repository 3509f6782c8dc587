# SPDX-License-Identifier: Apache-2.0
"""The launcher's end of the handshake, and the sockets that are handed on."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from vllm.errors import AddressError
from vllm.protocol.codec import Decoder, Encoder
from vllm.protocol.errors import HandshakeError
from vllm.protocol.handshake import (
    EngineHandshake,
    HandshakeOwner,
    engine_identity,
    engine_index,
    serve_handshake,
)
from vllm.protocol.listeners import listen_ipc, listen_tcp
from vllm.protocol.messages import EngineAddresses, EngineHello, EngineInit

INIT = EngineInit(addresses=EngineAddresses(inputs=["ipc:///i"], outputs=["ipc:///o"]))


def message(status: str) -> bytes:
    return bytes(Encoder().encode(EngineHello(status=status, local=True, headless=False))[0])


@pytest.mark.parametrize(
    ("index", "identity"), [(0, b"\0\0"), (1, b"\1\0"), (258, b"\2\1"), (65535, b"\xff\xff")]
)
def test_identities(index: int, identity: bytes) -> None:
    assert engine_identity(index) == identity
    assert engine_index(identity) == index


@pytest.mark.parametrize("index", [-1, 65536])
def test_index_out_of_range(index: int) -> None:
    with pytest.raises(HandshakeError, match="65535"):
        engine_identity(index)


def test_order_of_two_engines_may_interleave() -> None:
    owner = HandshakeOwner([0, 1], INIT)
    for identity in (b"\0\0", b"\1\0"):
        reply = owner.receive(identity, message("HELLO"))
        assert reply is not None
        assert Decoder(EngineInit).decode([reply]) == INIT
    assert owner.receive(b"\1\0", message("READY")) is None
    assert not owner.done
    owner.receive(b"\0\0", message("READY"))
    assert owner.done
    owner.expect(1)
    assert not owner.done
    assert owner.receive(b"\1\0", message("HELLO")) is not None


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([(b"\0\0", "READY")], "too early"),
        ([(b"\0\0", "HELLO"), (b"\0\0", "HELLO")], "not expected to send HELLO"),
        ([(b"\0\0", "HELLO"), (b"\0\0", "READY"), (b"\0\0", "READY")], "send READY"),
        ([(b"\5\0", "HELLO")], "engine 5 is not expected"),
        ([(b"\0\0", "GOODBYE")], "GOODBYE"),
        ([(b"\0\0\0", "HELLO")], "2 bytes"),
    ],
)
def test_messages_out_of_order(messages: list[tuple[bytes, str]], text: str) -> None:
    owner = HandshakeOwner([0], INIT)
    *before, (identity, status) = messages
    for earlier, word in before:
        owner.receive(earlier, message(word))
    with pytest.raises(HandshakeError, match=text):
        owner.receive(identity, message(status))


def test_noise_is_refused() -> None:
    with pytest.raises(HandshakeError, match="handshake of engine 0"):
        HandshakeOwner([0], INIT).receive(b"\0\0", b"\xc1")


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    context: zmq.Context[Any] = zmq.Context()
    yield context
    context.destroy(linger=0)


def test_launcher_gives_up(context: zmq.Context[Any]) -> None:
    socket = context.socket(zmq.ROUTER)
    socket.bind("tcp://127.0.0.1:*")
    with pytest.raises(HandshakeError, match="engine 0, 3 was not ready within 0 s"):
        serve_handshake(socket, HandshakeOwner([3, 0], INIT), 0)

    def check() -> None:
        raise ChildProcessError

    with pytest.raises(ChildProcessError):
        serve_handshake(socket, HandshakeOwner([0], INIT), 60, check)


def test_a_hello_that_nobody_takes_does_not_keep_the_engine(tmp_path: Path) -> None:
    """As where a frontend ends before its engine has greeted it."""
    context: zmq.Context[Any] = zmq.Context()
    engine = EngineHandshake(context, f"ipc://{tmp_path}/nobody", 0)
    with pytest.raises(HandshakeError, match="no INIT"):
        engine.hello(timeout_s=0.0)
    engine.close()
    began = time.monotonic()
    context.term()
    assert time.monotonic() - began < 2.0


def test_engine_refuses_an_init_it_cannot_read(context: zmq.Context[Any]) -> None:
    socket = context.socket(zmq.ROUTER)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    engine = EngineHandshake(context, f"tcp://127.0.0.1:{port}", 0)
    engine._send("HELLO")
    identity, _ = socket.recv_multipart()
    socket.send_multipart([identity, b"\x80"])
    with pytest.raises(HandshakeError, match="addresses"):
        engine.hello(60)
    engine.close()


# ---------------------------------------------------------------------------------------- listeners


@pytest.mark.parametrize("kind", ["ipc", "tcp"])
def test_listener_is_adopted(context: zmq.Context[Any], kind: str) -> None:
    with tempfile.TemporaryDirectory(prefix="l") as folder:
        listener = listen_ipc(folder) if kind == "ipc" else listen_tcp()
        puller, pusher = context.socket(zmq.PULL), context.socket(zmq.PUSH)
        pusher.connect(listener.address)  # before anyone answers there
        pusher.send(b"early")
        listener.bind(puller)
        assert puller.poll(60_000)
        assert puller.recv() == b"early"
        listener.close()  # the adopted duplicate lives on
        pusher.send(b"late")
        assert puller.poll(60_000)
        assert puller.recv() == b"late"
        assert os.listdir(folder) == []


def test_socket_path_too_long() -> None:
    with pytest.raises(AddressError, match="VLLM_RPC_BASE_PATH"):
        listen_ipc("/tmp/" + "x" * 100)


def test_port_in_use() -> None:
    with listen_tcp() as listener:
        port = int(listener.address.rpartition(":")[2])
        with pytest.raises(AddressError, match=f"port {port}: Address already in use"):
            listen_tcp(port=port)


def test_socket_files_are_private() -> None:
    with tempfile.TemporaryDirectory(prefix="l") as folder, listen_ipc(folder) as listener:
        assert listener.path is not None
        assert os.stat(listener.path).st_mode & 0o077 == 0
