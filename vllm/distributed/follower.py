# SPDX-License-Identifier: Apache-2.0
"""A rank above 0: a process that holds its part of the model and computes the steps it is given.

Owns that process' start and end. Must not know requests, sampling or scheduling. Whatever ends it
early is told to rank 0, which tells the user.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from vllm import logging
from vllm.config.engine import EngineConfig
from vllm.distributed.channel import Channel, Closed, Kind
from vllm.engine.lifeline import watch_parent
from vllm.errors import ExitCode, VLLMError
from vllm.logging import init_logger

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vllm.worker.parallel_runner import FollowingRunner

logger = init_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class RankArgs:
    """What a launcher tells a rank, as one JSON object.

    engine: the fields of `EngineConfig`.
    channel_fd: descriptor of the socket to rank 0; -1: `channel_address` is connected to instead.
    channel_address, token: host and port of rank 0, and what is said there to be let in.
    host: address of this rank's host that the others reach.
    log_name, log_format: of the log's lines.
    """

    engine: dict[str, Any]
    rank: int
    channel_fd: int = -1
    channel_address: tuple[str, int] = ("", 0)
    token: str = field(default="", repr=False)
    host: str
    log_name: str
    log_format: Literal["text", "json"] = "text"


class Follower:
    """The group as a rank above 0 sees it; see `vllm.distributed.group.Group`."""

    def __init__(self, channel: Channel, rank: int, size: int, host: str) -> None:
        self.rank, self.size = rank, size
        self._channel, self._host = channel, host

    def connect(self, device: torch.device) -> None:
        """Say that this rank runs and meet the others where rank 0 says."""
        from vllm.distributed.collectives import Collectives, join_store  # noqa: PLC0415

        self._channel.send(Kind.HELLO)
        where = json.loads(self._channel.expect(Kind.JOIN))
        store = join_store(where["host"], where["port"], self.size)
        self._collectives = Collectives(self.rank, self.size, store, device, self._host)

    def least(self, value: int) -> int:
        self._channel.send(Kind.LEAST, str(value).encode())
        return int(self._channel.expect(Kind.LEAST))

    def all_reduce(self, x: Tensor) -> None:
        self._collectives.all_reduce(x)


def run(args: RankArgs) -> ExitCode:
    """Be a rank until rank 0 is gone; returns the exit code of the process."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # rank 0 ends us when it ends
    channel = _open_channel(args)
    if args.channel_fd >= 0:
        watch_parent(lambda: os._exit(ExitCode.OK))  # a collective may wait for it forever
    try:
        _serve(args, channel)
    except Closed:
        return ExitCode.OK
    except Exception as error:
        logger.debug("trace of the end of rank %d", args.rank, exc_info=True)
        return _tell(channel, args.rank, error)


def _open_channel(args: RankArgs) -> Channel:
    if args.channel_fd >= 0:
        return Channel(socket.socket(fileno=args.channel_fd))
    sock = socket.create_connection(args.channel_address)
    channel = Channel(sock)
    channel.send_json(Kind.GREETING, {"token": args.token, "rank": args.rank, "pid": os.getpid()})
    return channel


def _serve(args: RankArgs, channel: Channel) -> NoReturn:
    from vllm.worker.parallel_runner import FollowingRunner  # noqa: PLC0415 - imports torch

    config = EngineConfig.from_json(args.engine)
    group = Follower(channel, args.rank, config.tensor_parallel_size, args.host)
    runner = FollowingRunner(config, group)
    channel.send(Kind.LOADED)
    while True:
        _do(runner, *channel.receive())


def _do(runner: FollowingRunner, kind: Kind, payload: bytes) -> None:
    if kind is Kind.STEP:
        runner.follow(payload)
    elif kind is Kind.RELEASE:
        runner.release_cache()
    elif kind is Kind.RESTORE:
        runner.restore_cache()
    else:
        raise AssertionError(f"{kind.name} is nothing to be told while serving")


def _tell(channel: Channel, rank: int, error: Exception) -> ExitCode:
    """Tell rank 0 why this one ends, in one line."""
    text = str(error) if isinstance(error, VLLMError) else f"{type(error).__name__}: {error}"
    code = getattr(error, "exit_code", ExitCode.ENGINE_START)
    line = f"tensor-parallel rank {rank} (pid {os.getpid()}) failed: {text}"
    try:
        channel.send_json(Kind.FAILED, {"line": line, "code": int(code)})
    except Closed:
        return ExitCode.OK  # rank 0 is gone: that was the reason
    return code


def main(text: bytes) -> int:
    """Parse the launcher's JSON and run."""
    import msgspec  # noqa: PLC0415

    args = msgspec.json.decode(text, type=RankArgs)
    logging.setup(args.log_name, args.log_format)
    return int(run(args))
