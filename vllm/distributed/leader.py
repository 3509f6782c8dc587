# SPDX-License-Identifier: Apache-2.0
"""Rank 0's end of a group: it tells the other ranks where to meet, gives them the steps and notices
their end.

Owns the channels to the other ranks of one engine. Must not know what a step is made of. Importing
this module does not load torch: the other ranks start while rank 0 still loads it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from vllm.distributed.channel import Channel, Closed, Kind
from vllm.errors import EngineDiedError, EngineStartError, ExitCode, VLLMError
from vllm.logging import init_logger

if TYPE_CHECKING:
    import torch
    from torch import Tensor

logger = init_logger(__name__)

NOTICE_S = 2.0
"""How long after a failed collective the rank that failed is looked for."""
STOP_S = 5.0
"""How long the other ranks may take to end once they are not needed."""
LOST_GRACE_S = 8.0
"""How long an engine that lost a rank may take for its farewell; it may hang in a collective."""


class Process(Protocol):
    """The process behind another rank."""

    def describe_end(self) -> str:
        """How it ended, in words, naming it; asked once its channel is closed."""

    def end(self, seconds: float) -> None:
        """Its channel is closed, which ends it; do so otherwise after `seconds`."""


class Peer:
    """Another rank: its channel, its process, and what it has said that nobody has read yet."""

    def __init__(self, channel: Channel, process: Process) -> None:
        self.channel, self.process = channel, process
        self.inbox: deque[tuple[Kind, bytes]] = deque()


class Leader:
    """The group as rank 0 sees it, see `vllm.distributed.group.Group`; `peers` are ranks 1 and up.

    `host` is the address of this host that the other ranks reach.
    """

    rank = 0

    def __init__(self, peers: Sequence[Peer], host: str) -> None:
        self.size = 1 + len(peers)
        self._peers, self._host = list(peers), host
        self._by_channel = {peer.channel.fileno(): peer for peer in peers}
        self._serving = self._closing = False
        self._lost: VLLMError | None = None
        self._noticing = threading.Lock()

    # ---- start

    def connect(self, device: torch.device) -> None:
        """Wait until every rank runs, and meet them. Raises what one of them failed of."""
        from vllm.distributed.collectives import Collectives, open_store  # noqa: PLC0415

        for peer in self._peers:
            self._expect(peer, Kind.HELLO)
        listener = socket.create_server((self._host, 0))
        port = listener.getsockname()[1]
        with self.explaining():
            store = open_store(listener.detach(), self._host, port, self.size)
            self.announce(Kind.JOIN, json.dumps({"host": self._host, "port": port}).encode())
            self._collectives = Collectives(0, self.size, store, device, self._host)

    def least(self, value: int) -> int:
        """Over the channels, where a rank that ends is noticed."""
        values = [int(self._expect(peer, Kind.LEAST)) for peer in self._peers]
        least = min(value, *values)
        self.announce(Kind.LEAST, str(least).encode())
        return least

    def await_loaded(self) -> None:
        """Wait until every rank waits for steps. Raises what one of them failed of."""
        for peer in self._peers:
            self._expect(peer, Kind.LOADED)
        self._serving = True

    def _expect(self, due: Peer, kind: Kind) -> bytes:
        """The next message of one rank, unless any of them ends before."""
        while not due.inbox:
            self._receive(None)
        found, payload = due.inbox.popleft()
        assert found is kind, f"{found.name} came where {kind.name} was due"
        return payload

    # ---- steps

    def all_reduce(self, x: Tensor) -> None:
        self._collectives.all_reduce(x)

    def announce(self, kind: Kind, payload: bytes = b"") -> None:
        """Tell every rank what comes next. Raises `EngineDiedError` where one is gone."""
        for peer in self._peers:
            try:
                peer.channel.send(kind, payload)
            except Closed:
                self._notice(NOTICE_S)
                self.check()

    # ---- the end of a rank

    def check(self) -> None:
        """Raise if a rank was lost."""
        if self._lost is not None:
            raise self._lost

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """What fails within the block fails because of a rank that ended, if one did."""
        try:
            yield
        except VLLMError:
            raise
        except Exception:
            self._notice(NOTICE_S)
            self.check()
            raise

    def watch(self, on_lost: Callable[[], None]) -> None:
        """From now on a thread notices the end of a rank at once and calls `on_lost`.

        Where this process has not ended some seconds later, it is ended with ENGINE_DIED.
        """
        threading.Thread(target=self._watch, args=(on_lost,), name="ranks", daemon=True).start()

    def close(self) -> None:
        """End the other ranks; none of their processes is left."""
        self._closing = True
        peers, self._peers = self._peers, []
        for peer in peers:
            peer.channel.close()
        for peer in peers:
            peer.process.end(STOP_S)

    def __del__(self) -> None:
        self.close()

    def _watch(self, on_lost: Callable[[], None]) -> None:
        while self._lost is None and not self._closing:
            self._notice(1.0)
        if self._closing:
            return  # their ends are ours
        on_lost()
        time.sleep(LOST_GRACE_S)
        logger.error("the engine hangs in a step and is ended: %s", self._lost)
        os._exit(ExitCode.ENGINE_DIED)

    def _notice(self, seconds: float) -> None:
        """Wait for the end of a rank; while serving, ranks have nothing else to say."""
        with self._noticing, contextlib.suppress(VLLMError):
            if self._lost is None and not self._closing:
                self._receive(seconds)

    def _receive(self, seconds: float | None) -> None:
        """Take what ranks have said; raises, and remembers, what one of them ended of."""
        poller = select.poll()
        for number in self._by_channel:
            poller.register(number, select.POLLIN)
        for number, _ in poller.poll(None if seconds is None else seconds * 1000):
            self._take(self._by_channel[number])

    def _take(self, peer: Peer) -> None:
        try:
            kind, payload = peer.channel.receive()
        except Closed:
            raise self._lose(peer.process.describe_end(), ExitCode.ENGINE_START) from None
        if kind is Kind.FAILED:
            told = json.loads(payload)
            raise self._lose(told["line"], ExitCode(told["code"]))
        peer.inbox.append((kind, payload))

    def _lose(self, line: str, code: ExitCode) -> VLLMError:
        """The error that ends the engine; `code` is for its start, later it is ENGINE_DIED."""
        if self._serving:
            self._lost = EngineDiedError(line)
        else:
            self._lost = EngineStartError(line)
            self._lost.exit_code = code
        return self._lost
