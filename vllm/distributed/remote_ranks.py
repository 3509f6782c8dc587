# SPDX-License-Identifier: Apache-2.0
"""The other ranks of an engine as processes on other hosts, which somebody else starts.

Owns how they are let in: each connects to a socket that this process inherited and says a token.
Must not know who starts them.
"""

from __future__ import annotations

import hmac
import json
import socket
import time
from dataclasses import dataclass, field

from vllm.distributed.channel import Channel, Closed, Kind
from vllm.distributed.leader import Leader, Peer
from vllm.errors import EngineStartError

CONNECT_S = 120.0
"""How long ranks may take to be started and to connect."""
GREETING_S = 5.0


@dataclass(frozen=True)
class RankListener:
    """Where the other ranks connect to: a listening socket's descriptor, this host's address as
    they reach it, and what each of them says to be let in.
    """

    host: str
    token: str = field(repr=False)
    listener_fd: int = -1


class RemoteProcess:
    """A rank that is known by its connection alone."""

    def __init__(self, rank: int, pid: int, host: str) -> None:
        self._name = f"tensor-parallel rank {rank} (pid {pid} on {host})"

    def describe_end(self) -> str:
        return f"{self._name} is gone: its connection was closed"

    def end(self, _seconds: float) -> None:
        """The end of its connection ends it, and whoever started it waits for that."""


def accept_ranks(size: int, where: RankListener) -> Leader:
    """Wait for ranks 1 to `size` - 1; this process is rank 0. Raises `EngineStartError`."""
    peers: dict[int, Peer] = {}
    deadline = time.monotonic() + CONNECT_S
    with socket.socket(fileno=where.listener_fd) as listener:
        while len(peers) < size - 1:
            listener.settimeout(max(0.1, deadline - time.monotonic()))
            try:
                connection, address = listener.accept()
            except TimeoutError:
                missing = ", ".join(str(rank) for rank in range(1, size) if rank not in peers)
                raise EngineStartError(
                    f"tensor-parallel rank {missing} did not connect to {where.host} within "
                    f"{CONNECT_S:g} s"
                ) from None
            _admit(peers, connection, address[0], size, where.token)
    return Leader([peers[rank] for rank in range(1, size)], where.host)


def _admit(
    peers: dict[int, Peer], connection: socket.socket, host: str, size: int, token: str
) -> None:
    """Take the rank behind a connection; a stranger's is closed."""
    connection.settimeout(GREETING_S)
    channel = Channel(connection)
    try:
        greeting = json.loads(channel.expect(Kind.GREETING, most=1024))
        said, rank, pid = greeting["token"], int(greeting["rank"]), int(greeting["pid"])
    except (Closed, ValueError, KeyError, TypeError):
        channel.close()
        return
    if not hmac.compare_digest(str(said), token) or rank in peers or not 0 < rank < size:
        channel.close()
        return
    connection.settimeout(None)
    peers[rank] = Peer(channel, RemoteProcess(rank, pid, host))
