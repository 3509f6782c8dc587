# SPDX-License-Identifier: Apache-2.0
"""The other ranks of an engine as processes on its host.

Owns how they are started: each gets its configuration and one end of a socket pair by descriptor.
Must not know what a rank computes.
"""

from __future__ import annotations

import socket
import sys
from dataclasses import replace

from vllm import children, logging
from vllm.config.engine import EngineConfig
from vllm.distributed.channel import Channel
from vllm.distributed.leader import Leader, Peer
from vllm.errors import EngineStartError

HOST = "127.0.0.1"
END_S = 2.0
"""How long a process may outlive its end of the channel before it is said to run."""


class LocalProcess:
    """A rank that is a child of this process."""

    def __init__(self, child: children.Child) -> None:
        self._child = child

    def describe_end(self) -> str:
        self._child.wait(END_S)
        return f"tensor-parallel {self._child.describe_end()}"

    def end(self, seconds: float) -> None:
        if not self._child.wait(seconds):
            children.kill([self._child])
        self._child.close()


def start_ranks(config: EngineConfig) -> Leader:
    """Start ranks 1 and up of an engine; this process is rank 0.

    Raises `EngineStartError` where the system has no process left for one.
    """
    size = config.tensor_parallel_size
    return Leader([_start(config, rank) for rank in range(1, size)], HOST)


def _start(config: EngineConfig, rank: int) -> Peer:
    ours, theirs = socket.socketpair()
    own = replace(config, device_index=config.device_index + rank)
    arguments = {
        "engine": own.to_json(),
        "rank": rank,
        "channel_fd": theirs.fileno(),
        "host": HOST,
        "log_name": f"{logging.own.process} rank {rank}".strip(),
        "log_format": logging.own.form,
    }
    command = [sys.executable, "-m", "vllm.distributed"]
    with theirs:
        child = children.start(
            f"rank {rank}", command, arguments, (theirs.fileno(),), EngineStartError, tied=False
        )
    return Peer(Channel(ours), LocalProcess(child))
