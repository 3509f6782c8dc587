# SPDX-License-Identifier: Apache-2.0
"""Engines on the nodes of a Ray cluster: where they are placed, how they are started and ended.

Each engine has a placement group with one bundle per rank, so that all its ranks have room or none
is started. Owns the connection to the cluster. Must not know what an engine computes; imports Ray
when it is used and never torch.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vllm import children
from vllm.config.engine import EngineConfig
from vllm.distributed.ray_launcher import End, Launcher
from vllm.errors import EngineStartError, ExitCode, UsageError
from vllm.logging import init_logger

logger = init_logger(__name__)

ROOM_S = 30.0
"""How long the cluster may take to make room for an engine."""
LAST_WORDS_S = 15.0
"""How long rank 0 may take to end after another rank of its engine."""
KNOCK_S = 5.0
LOST = -1


def import_ray() -> Any:
    """The package. Raises `UsageError` where it is not installed."""
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # lines of two engines differ in a digit
    try:
        import ray  # noqa: PLC0415 - an extra
        import ray.util.placement_group  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(
            f"--distributed-executor-backend ray needs Ray ({error}): pip install 'vllm[ray]'"
        ) from None
    return ray


def _knock(address: str) -> None:
    """Raise OSError where nobody listens at HOST:PORT: Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and "/" not in address and port.isdigit():
        socket.create_connection((host, int(port)), KNOCK_S).close()


class RayCluster:
    """A cluster with room for `count` engines of this configuration.

    Raises `UsageError` without Ray or without a cluster, and `EngineStartError` without room.
    """

    def __init__(self, engine: EngineConfig, count: int) -> None:
        self._ray = import_ray()
        self._connect()
        self.address = str(self._ray.util.get_node_ip_address())
        self._bundle = self._needs(engine)
        threads = None if "GPU" in self._bundle else int(self._bundle["CPU"])
        self._engine = replace(engine, num_threads=engine.num_threads or threads)
        self._groups = [self._reserve(index) for index in range(count)]

    def start(
        self, index: int, arguments: Mapping[str, Any], environ: Mapping[str, str]
    ) -> RayEngine:
        """Start engine `index`; `arguments` are those of `EngineArgs`, but for `engine`."""
        group = self._groups[index]
        actors = [self._launcher(group, rank, environ) for rank in range(self._size)]
        whole = {**arguments, "engine": self._engine.to_json()}
        return RayEngine(self._ray, f"engine {index}", actors, whole)

    @property
    def _size(self) -> int:
        return self._engine.tensor_parallel_size

    def _connect(self) -> None:
        address = os.environ.get("RAY_ADDRESS") or "auto"
        try:
            _knock(address)
            self._ray.init(address=address, logging_level="warning")
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0].rstrip(".")
            raise UsageError(
                f"no Ray cluster at {address!r} ({reason}); start one with `ray start --head`, or "
                "name one in RAY_ADDRESS"
            ) from None

    def _needs(self, engine: EngineConfig) -> dict[str, float]:
        """What a rank takes of a node: a GPU, or CPUs: `num_threads`, else all of the smallest."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        gpus = any(resources.get("GPU") for resources in nodes)
        if engine.device == "cuda" or (engine.device == "auto" and gpus):
            return {"CPU": 1, "GPU": 1}
        cpus = [resources["CPU"] for resources in nodes if resources.get("CPU")]
        return {"CPU": engine.num_threads or int(min(cpus, default=1))}

    def _reserve(self, index: int) -> Any:
        bundles = [dict(self._bundle) for _ in range(self._size)]
        group = self._ray.util.placement_group(bundles, strategy="PACK")
        if not group.wait(ROOM_S):
            raise EngineStartError(
                f"the Ray cluster has no room for engine {index}: {self._size} times "
                f"{self._bundle} did not become free within {ROOM_S:g} s, see `ray status`"
            )
        return group

    def _launcher(self, group: Any, rank: int, environ: Mapping[str, str]) -> Any:
        strategy = self._ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy
        options = {
            "num_cpus": self._bundle["CPU"],
            "num_gpus": self._bundle.get("GPU", 0),
            "max_concurrency": 4,  # `run` blocks, and a signal is to come through
            "scheduling_strategy": strategy(group, placement_group_bundle_index=rank),
        }
        return self._ray.remote(Launcher).options(**options).remote(environ)


class RayEngine:
    """One engine, its ranks included; to its supervisor it is like `vllm.children.Child`.

    `pidfd` becomes readable when it has ended.
    """

    def __init__(
        self, ray: Any, name: str, actors: Sequence[Any], arguments: dict[str, Any]
    ) -> None:
        self.name = name
        self.pidfd = os.eventfd(0)
        self._ray, self._actors = ray, actors
        self._end: End | None = None
        self._done = threading.Event()
        threading.Thread(target=self._run, args=(arguments,), name=name, daemon=True).start()

    @property
    def ended(self) -> bool:
        return self._done.is_set()

    @property
    def told_code(self) -> ExitCode | None:
        return None if self._end is None else children.told_code(self._end.code)

    def describe_end(self) -> str:
        return f"{self.name} runs" if self._end is None else self._end.words

    def signal(self, number: signal.Signals) -> None:
        """SIGKILL ends the actors, too, and so whatever they wait for."""
        if number is signal.SIGKILL:
            self._kill()
        elif not self.ended:
            self._actors[0].signal.remote(int(number))

    def wait(self, seconds: float | None = None) -> bool:
        return self._done.wait(seconds)

    def close(self) -> None:
        os.close(self.pidfd)

    def _kill(self) -> None:
        for actor in self._actors:
            self._ray.kill(actor)

    def _run(self, arguments: dict[str, Any]) -> None:
        try:
            end = self._until_end(self._start(arguments))
        except Exception as error:
            end = self._lost(self.name, error)
        self._kill()
        self._end = end
        self._done.set()
        os.eventfd_write(self.pidfd, 1)

    def _start(self, arguments: dict[str, Any]) -> list[Any]:
        """References to the ends of all ranks' processes."""
        first, *others = self._actors
        if not others:
            return [first.run.remote(self.name, "vllm.engine", arguments)]
        token = secrets.token_hex(16)
        hosts = self._ray.get([actor.address.remote() for actor in self._actors])
        port = self._ray.get(first.listen.remote(hosts[0]))
        ranks = {"host": hosts[0], "token": token}
        ends = [first.run.remote(self.name, "vllm.engine", {**arguments, "ranks": ranks})]
        for rank, (actor, host) in enumerate(zip(others, hosts[1:], strict=True), 1):
            own = {
                "engine": arguments["engine"],
                "rank": rank,
                "channel_address": [hosts[0], port],
                "token": token,
                "host": host,
                "log_name": f"{self.name} rank {rank}",
                "log_format": arguments["log_format"],
            }
            ends.append(actor.run.remote(f"{self.name} rank {rank}", "vllm.distributed", own))
        return ends

    def _until_end(self, ends: list[Any]) -> End:
        """The end of rank 0, which follows that of any other rank."""
        (first,), _ = self._ray.wait(ends, num_returns=1)
        if first is ends[0]:
            return self._ray.get(first)
        try:
            other = self._ray.get(first)
        except self._ray.exceptions.RayError as error:
            other = self._lost(f"a rank of {self.name}", error)
        try:
            end = self._ray.get(ends[0], timeout=LAST_WORDS_S)
        except self._ray.exceptions.RayError:
            return End(f"{self.name} lost a rank: {other.words}", LOST)
        return End(f"{end.words}: {other.words}", end.code)

    def _lost(self, name: str, error: Exception) -> End:
        """An end that nobody saw: the actor, or its node, is gone."""
        lines = [line.strip() for line in str(error).splitlines()]
        told = [line for line in lines if line and not line.startswith(("class_name", "actor_id"))]
        return End(f"{name} is lost: {' '.join(told[:1]) or type(error).__name__}", LOST)
