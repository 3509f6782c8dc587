# SPDX-License-Identifier: Apache-2.0
"""Ranks of other hosts are let in by a token; strangers are not, and do not disturb."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from vllm.distributed import remote_ranks
from vllm.distributed.channel import Channel, Closed, Kind
from vllm.distributed.leader import Leader
from vllm.distributed.remote_ranks import RankListener, accept_ranks
from vllm.errors import EngineDiedError, EngineStartError

TOKEN = "secret"


class Door:
    """An engine of three ranks that lets in whoever says the token."""

    def __init__(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self.leader: list[Leader] = []
        where = RankListener("127.0.0.1", TOKEN, listener.detach())
        self.thread = threading.Thread(target=lambda: self.leader.append(accept_ranks(3, where)))
        self.thread.start()

    def knock(self, **greeting: Any) -> Channel:
        channel = Channel(socket.create_connection(("127.0.0.1", self.port)))
        channel.send_json(Kind.GREETING, {"token": TOKEN, "pid": 7, **greeting})
        return channel

    def open(self) -> Leader:
        self.thread.join(30)
        return self.leader[0]


@pytest.fixture
def door() -> Iterator[Door]:
    door = Door()
    yield door
    door.thread.join(30)


def test_ranks_are_let_in_and_strangers_are_not(door: Door) -> None:
    strangers = [
        door.knock(rank=1, token="guess"),
        door.knock(rank=0),
        door.knock(rank=3),
        door.knock(),
    ]
    shouting = Channel(socket.create_connection(("127.0.0.1", door.port)))
    shouting.send(Kind.STEP, b"x" * 2000)
    second, first = door.knock(rank=2), door.knock(rank=1)
    leader = door.open()
    for stranger in [*strangers, shouting]:
        with pytest.raises(Closed):
            stranger.receive()
    assert leader.size == 3
    leader.announce(Kind.RELEASE)
    assert [rank.receive()[0] for rank in (first, second)] == [Kind.RELEASE, Kind.RELEASE]


def test_a_rank_that_is_gone_is_named_with_its_host(door: Door) -> None:
    ranks = [door.knock(rank=1), door.knock(rank=2)]
    leader = door.open()
    for rank in ranks:
        rank.send(Kind.LOADED)
    leader.await_loaded()
    ranks[1].close()
    words = r"rank 2 \(pid 7 on 127.0.0.1\) is gone"
    with pytest.raises(EngineDiedError, match=words), leader.explaining():
        raise RuntimeError("a sum failed")


def test_the_end_of_ranks_that_are_not_needed_is_no_loss(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[object] = []
    monkeypatch.setattr("vllm.distributed.leader.LOST_GRACE_S", 0.0)
    monkeypatch.setattr("vllm.distributed.leader.os._exit", ended.append)
    ranks = [door.knock(rank=1), door.knock(rank=2)]
    leader = door.open()
    for rank in ranks:
        rank.send(Kind.LOADED)
    leader.await_loaded()
    leader.watch(lambda: ended.append("lost"))
    (watching,) = [thread for thread in threading.enumerate() if thread.name == "ranks"]
    leader.close()
    watching.join(30)
    assert not watching.is_alive()
    assert ended == []


def test_ranks_that_do_not_come_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_ranks, "CONNECT_S", 0.1)
    listener = socket.create_server(("127.0.0.1", 0))
    where = RankListener("127.0.0.1", TOKEN, listener.detach())
    with pytest.raises(EngineStartError, match="tensor-parallel rank 1, 2 did not connect to 127"):
        accept_ranks(3, where)
