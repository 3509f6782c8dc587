# SPDX-License-Identifier: Apache-2.0
"""A supervisor whose engines are on the nodes of a Ray cluster.

Owns what differs from engines on this host: the cluster places them, and where one cannot be
started again (its node is gone, and no other has room) the others go on.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace

from vllm.children import SECRETS, Supervised
from vllm.cli.supervisor import Supervisor, engine_arguments
from vllm.distributed.ray_engines import RayCluster
from vllm.errors import EngineDiedError
from vllm.logging import init_logger

logger = init_logger(__name__)


@dataclass
class RaySupervisor(Supervisor):
    """The frontend here, engines anywhere."""

    lost: set[int] = field(default_factory=set)

    def run(self) -> int:
        """As without Ray; raises `UsageError` where there is no cluster."""
        parallel = self.config.parallel
        self._cluster = RayCluster(self.config.engine, parallel.size)
        self.signals.install()  # Ray has its own for a moment
        address = self._cluster.address if parallel.address == "127.0.0.1" else parallel.address
        self.config = replace(self.config, parallel=replace(parallel, address=address))
        return super().run()

    @property
    def _ranks(self) -> range:
        return range(self.config.parallel.size)

    def _start_engine(self, rank: int, handshake: str, passed: tuple[int, ...]) -> Supervised:
        environ = {
            name: value
            for name, value in os.environ.items()
            if name.startswith("VLLM_") and name not in SECRETS
        }
        arguments = engine_arguments(self.config, rank, handshake)
        return self._cluster.start(rank, arguments, environ)

    def _give_up(self, rank: int, why: str) -> None:
        self.lost.add(rank)
        if len(self.lost) == self.config.parallel.size:
            raise EngineDiedError(f"{why}: no engine is left")
        logger.error("%s: the other engines go on without it", why)
