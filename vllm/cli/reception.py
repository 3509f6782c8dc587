# SPDX-License-Identifier: Apache-2.0
"""Where engines greet: they are told the frontend's addresses and say when they are ready.

Stays open while the server runs, for engines that are started again, here or on another host. Must
not know processes.
"""

from __future__ import annotations

from typing import Any

import zmq

from vllm.cli.sockets import EngineSockets
from vllm.config.serve import ParallelConfig
from vllm.logging import init_logger
from vllm.protocol.errors import HandshakeError
from vllm.protocol.handshake import HandshakeOwner, engine_index
from vllm.protocol.messages import EngineAddresses, EngineInit

logger = init_logger(__name__)


class Reception:
    """The launcher's end of the handshake on a bound ROUTER."""

    def __init__(
        self, router: zmq.Socket[Any], sockets: EngineSockets, parallel: ParallelConfig
    ) -> None:
        addresses = EngineAddresses(
            inputs=[sockets.input.address], outputs=[sockets.output.address]
        )
        self.router = router
        self._parallel = parallel
        self._owner = HandshakeOwner(range(parallel.size), EngineInit(addresses=addresses))

    @property
    def all_ready(self) -> bool:
        return self._owner.done

    def is_ready(self, rank: int) -> bool:
        return rank not in self._owner.waiting_for_ready

    def expect(self, rank: int) -> None:
        """An engine is started again."""
        self._owner.expect(rank)

    def receive(self) -> None:
        """Take one message and answer it. Raises HandshakeError for one that is out of order."""
        identity, *frames = self.router.recv_multipart()
        self._answer(identity, frames[-1] if frames else b"")

    def receive_all(self) -> None:
        """Take what waits. Nothing that arrives while the server runs may end it."""
        while self.router.poll(0):
            identity, *frames = self.router.recv_multipart()
            payload = frames[-1] if frames else b""
            try:
                self._answer_again(identity, payload)
            except HandshakeError as error:
                logger.warning("a handshake was refused: %s", error)

    def _answer_again(self, identity: bytes, payload: bytes) -> None:
        """Engines of other hosts are started again without notice."""
        try:
            self._answer(identity, payload)
        except HandshakeError:
            rank = engine_index(identity)
            if rank in self._parallel.local_ranks or rank >= self._parallel.size:
                raise
            self._owner.expect(rank)
            self._answer(identity, payload)

    def _answer(self, identity: bytes, payload: bytes) -> None:
        answer = self._owner.receive(identity, payload)
        if answer is not None:
            self.router.send_multipart([identity, answer])
