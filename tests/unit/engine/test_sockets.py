# SPDX-License-Identifier: Apache-2.0
"""The engine's sockets when a frontend comes and goes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest
import zmq

from tests.e2e.server import wait_for
from vllm.engine import sockets
from vllm.engine.sockets import Outgoing, OutputWriter
from vllm.protocol.messages import ENGINE_CORE_DEAD

PATIENCE_S = 20.0


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"ipc://{tmp_path / 's'}"


@pytest.fixture
def frontend(address: str) -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        socket.bind(address)
        yield socket


def test_the_end_does_not_wait_for_a_frontend_that_is_gone(
    address: str, frontend: zmq.Socket[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "OUTPUT_LINGER_MS", 10 * int(PATIENCE_S) * 1000)
    context, outbox = zmq.Context(), SimpleQueue[Outgoing | None]()
    writer = OutputWriter(context, [address], outbox)
    writer.start()
    outbox.put(Outgoing(0, None))
    assert frontend.poll(int(PATIENCE_S) * 1000)
    frontend.close(0)
    wait_for(writer._links[0].is_lost, "the end of the connection")
    outbox.put(Outgoing(0, None))
    writer.close(PATIENCE_S)
    ending = threading.Thread(target=context.term, daemon=True)
    ending.start()
    ending.join(PATIENCE_S)
    assert not ending.is_alive()


def test_the_last_outputs_reach_a_frontend_that_is_there(
    address: str, frontend: zmq.Socket[bytes]
) -> None:
    context, outbox = zmq.Context(), SimpleQueue[Outgoing | None]()
    writer = OutputWriter(context, [address], outbox)
    writer.start()
    for _ in range(1000):
        outbox.put(Outgoing(0, None))
    writer.close(PATIENCE_S)
    context.term()
    for _ in range(1000):
        assert frontend.poll(int(PATIENCE_S) * 1000)
        assert frontend.recv() == ENGINE_CORE_DEAD
