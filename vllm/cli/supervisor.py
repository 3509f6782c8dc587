# SPDX-License-Identifier: Apache-2.0
"""Start order, readiness, supervision and the end of the processes below `vllm serve`.

Owns when each child is started and stopped, signals, and which exit code the whole has. Must never
import torch, hold a request or know HTTP beyond one health check.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq

from vllm import children
from vllm.children import Child, Supervised
from vllm.cli.health import HealthCheck
from vllm.cli.restarts import Restarts
from vllm.cli.signals import StopSignals
from vllm.cli.sockets import EngineSockets, HTTPSocket, open_engine_sockets, open_http
from vllm.config.serve import ServeConfig
from vllm.errors import (
    EngineDiedError,
    EngineStartError,
    ExitCode,
    FrontendDiedError,
    FrontendStartError,
    VLLMError,
)
from vllm.logging import init_logger, say
from vllm.protocol.errors import HandshakeError

if TYPE_CHECKING:
    from vllm.cli.reception import Reception

logger = init_logger(__name__)

POLL_MS = 100
STOP_GRACE_S = 5.0  # for a child to end after SIGTERM, beyond what its requests were given


class Stopped(Exception):
    """Somebody asked for the end."""


class ToldByChild(VLLMError):
    """A child ended and has told its cause; nothing is left to say."""

    def __init__(self, child: Supervised, code: ExitCode) -> None:
        super().__init__(child.describe_end())
        self.exit_code = code


@dataclass
class Supervisor:
    """The processes of one `vllm serve`. `binary` is the Rust frontend, None the Python one."""

    config: ServeConfig
    binary: Path | None
    signals: StopSignals
    engines: dict[int, Supervised] = field(default_factory=dict)
    frontend: Child | None = None
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._restarts = Restarts(self.config.engine_restarts)

    def run(self) -> int:
        """Serve until asked to stop or a child ends. Returns the exit code; raises VLLMError."""
        http = open_http(self.config.http)
        try:
            sockets = open_engine_sockets(self.config.parallel)
            with contextlib.closing(sockets), self._ending_children():
                self._start_children(http, sockets)
                # Its codec loads numpy, which takes longer than all that was needed to get here.
                from vllm.cli.reception import Reception  # noqa: PLC0415

                with _bound_router(sockets) as router:
                    reception = Reception(router, sockets, self.config.parallel)
                    self._await_all(http, reception)
                    http.sock.close()  # the port closes when the frontend closes it
                    sockets.leave_to_frontend()
                    self._supervise(sockets.handshake.address, sockets.passed, reception)
        except Stopped:
            return self._stopped_code()
        finally:
            http.remove_file()
        return int(ExitCode.OK)

    # ---- start

    def _start_children(self, http: HTTPSocket, sockets: EngineSockets) -> None:
        for rank in self._ranks:
            self._raise_if_stopping()
            self.engines[rank] = self._start_engine(rank, sockets.handshake.address, sockets.passed)
        self._start_frontend(http, sockets)

    @property
    def _ranks(self) -> range:
        """The engines that are started from here."""
        return self.config.parallel.local_ranks

    def _start_engine(self, rank: int, handshake: str, passed: tuple[int, ...]) -> Supervised:
        return start_engine(self.config, rank, handshake, passed)

    def _await_all(self, http: HTTPSocket, reception: Reception) -> None:
        self._await_engines(reception)
        self._await_frontend(http)
        seconds = time.monotonic() - self.started
        logger.info("ready: %.1f s, serving %s on %s", seconds, self._name, http.url)
        if self.config.frontend.log_format == "text":
            _show_example(http, self._name, bool(self.config.frontend.api_key))

    @property
    def _name(self) -> str:
        return self.config.frontend.served_model_name[0]

    def _start_frontend(self, http: HTTPSocket, sockets: EngineSockets) -> None:
        listeners = {
            "--listen-fd": http.sock.fileno(),
            "--input-listener-fd": sockets.input.listener.fileno(),
            "--output-listener-fd": sockets.output.listener.fileno(),
        }
        program = [sys.executable, "-m", "vllm.api_server"]
        if self.binary is not None:
            program = [str(self.binary), "frontend"]
        flags = [word for name, number in listeners.items() for word in (name, str(number))]
        count = ["--engine-count", str(self.config.parallel.size)]
        self.frontend = children.start(
            "frontend",
            [*program, *flags, *count],
            self.config.frontend.to_json(),
            tuple(listeners.values()),
            FrontendStartError,
        )

    def _await_engines(self, reception: Reception) -> None:
        """Answer HELLO with the addresses until every engine has said READY."""
        for _ in self._until(self.config.ready_timeout, "the engine"):
            if reception.all_ready:
                return
            if not reception.router.poll(POLL_MS):
                continue
            try:
                reception.receive()
            except HandshakeError as error:
                raise EngineStartError(str(error)) from None

    def _await_frontend(self, http: HTTPSocket) -> None:
        """Ask for `/health` until it says 200."""
        check = HealthCheck(http.connect, tls=self.config.http.tls)
        try:
            for _ in self._until(self.config.ready_timeout, "the frontend"):
                if check.passed(POLL_MS / 1000):
                    return
        finally:
            check.close()

    def _until(self, seconds: float, what: str) -> Iterator[None]:
        """Turns of a waiting loop: ends it on a signal, a child's end, or after `seconds`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._raise_if_stopping()
            self._raise_if_ended()
            yield
        error = EngineStartError if what == "the engine" else FrontendStartError
        raise error(
            f"{what} was not ready within {seconds:g} s; VLLM_ENGINE_READY_TIMEOUT_S sets it"
        )

    # ---- supervise

    def _supervise(
        self, handshake: str, passed: tuple[int, ...], reception: Reception | None = None
    ) -> None:
        """Start engines that die again, as often as they may. Engines of other hosts are started
        there; here they find whoever answers.
        """
        while True:
            self._raise_if_stopping()
            self._bury_engines()
            if self.frontend is not None and self.frontend.ended:
                raise FrontendDiedError(self.frontend.describe_end())
            self._start_again(handshake, passed, reception)
            self._sleep(reception)
            if reception is not None:
                self._receive(reception)

    def _bury_engines(self) -> None:
        """Plan the next start of each engine that has ended, unless it has had its share."""
        for rank, child in list(self.engines.items()):
            if not child.ended:
                continue
            self._plan(rank, child.describe_end())
            self.engines.pop(rank).close()

    def _plan(self, rank: int, end: str) -> None:
        plan = self._restarts.died(rank)
        if plan is None:
            self._give_up(rank, f"{end}; {self._restarts.spent}")
        else:
            logger.error("%s; %s", end, plan)

    def _give_up(self, rank: int, why: str) -> None:
        """An engine is not started again."""
        raise EngineDiedError(f"{why}: everything ends")

    def _start_again(
        self, handshake: str, passed: tuple[int, ...], reception: Reception | None
    ) -> None:
        for rank in self._restarts.take_due():
            if reception is not None:
                reception.expect(rank)
                self._restarts.started(rank, self.config.ready_timeout)
            try:
                self.engines[rank] = self._start_engine(rank, handshake, passed)
            except EngineStartError as error:  # no process, memory or descriptor left
                self._plan(rank, str(error))
        for rank in self._restarts.take_overdue():
            seconds = self.config.ready_timeout
            logger.error("engine %d was not ready within %g s and is ended", rank, seconds)
            self.engines[rank].signal(signal.SIGKILL)

    def _receive(self, reception: Reception) -> None:
        reception.receive_all()
        for rank in self._restarts.starting:
            if reception.is_ready(rank):
                self._restarts.ready(rank)
                logger.info("engine %d is back", rank)

    def _sleep(self, reception: Reception | None) -> None:
        """Until a child ends, a signal or a handshake arrives, or a start is due."""
        poller = zmq.Poller()
        for child in self._all:
            poller.register(child.pidfd, zmq.POLLIN)
        poller.register(self.signals.fileno(), zmq.POLLIN)
        if reception is not None:
            poller.register(reception.router, zmq.POLLIN)
        poller.poll(self._restarts.pause_ms())

    @property
    def _all(self) -> list[Supervised]:
        frontend: list[Supervised] = [self.frontend] if self.frontend is not None else []
        return [*frontend, *self.engines.values()]

    def _raise_if_stopping(self) -> None:
        if self.signals.count:
            raise Stopped

    def _raise_if_ended(self) -> None:
        """During the start. An engine's end first: a frontend may end because its engine did."""
        for child in [*self.engines.values(), self.frontend]:
            if child is None or not child.ended:
                continue
            if child.told_code is not None:
                raise ToldByChild(child, child.told_code)
            error = FrontendStartError if child is self.frontend else EngineStartError
            raise error(child.describe_end())

    # ---- end

    @contextmanager
    def _ending_children(self) -> Iterator[None]:
        """However the block ends, no child is left."""
        try:
            yield
        except Stopped:
            self._end_gracefully()
            raise
        except EngineDiedError:
            self._end_frontend(STOP_GRACE_S)  # it tells its clients why their streams end
            raise
        finally:
            children.kill(self._all)

    def _end_gracefully(self) -> None:
        """First the frontend, which lets its requests finish, then the engines."""
        logger.info("stopping on %s", self.signals.first_name)
        frontend = self.config.frontend
        seconds = (frontend.drain_grace or 0.0) + frontend.shutdown_timeout + STOP_GRACE_S
        self._end_frontend(seconds)
        # Engines have nothing left to finish where the frontend was here.
        with self._forced():
            engines = list(self.engines.values())
            children.stop(engines, STOP_GRACE_S if self.frontend else seconds)

    def _end_frontend(self, seconds: float) -> None:
        if self.frontend is not None:
            with self._forced():
                children.stop([self.frontend], seconds)

    def _forced(self) -> AbstractContextManager[None]:
        """Within it a second signal ends everything now."""
        return self.signals.forced(lambda: children.kill(self._all))

    def _stopped_code(self) -> int:
        return self.signals.exit_code


class HeadlessSupervisor(Supervisor):
    """Engines only; frontend and handshake are elsewhere."""

    def run(self) -> int:
        """Run the engines until asked to stop or one ends."""
        parallel = self.config.parallel
        host = f"[{parallel.address}]" if ":" in parallel.address else parallel.address
        address = f"tcp://{host}:{parallel.rpc_port}"
        logger.info("engines %s connect to %s", list(parallel.local_ranks), address)
        try:
            with self._ending_children():
                for rank in parallel.local_ranks:
                    self.engines[rank] = self._start_engine(rank, address, ())
                self._supervise(address, ())
        except Stopped:
            return self._stopped_code()
        return int(ExitCode.OK)

    def _bury_engines(self) -> None:
        """An engine that could not start has told why; one cannot tell from here when it is
        ready.
        """
        for child in self.engines.values():
            code = child.told_code if child.ended else None
            if code not in (None, ExitCode.ENGINE_DIED):  # that one has served
                raise ToldByChild(child, code)
        super()._bury_engines()


def start_engine(config: ServeConfig, rank: int, handshake: str, passed: tuple[int, ...]) -> Child:
    """Start engine `rank`, which connects to the `handshake` address."""
    place = rank - config.parallel.start_rank  # among the engines of this host
    device = place * config.engine.tensor_parallel_size
    engine = replace(config.engine, device_index=device).to_json()
    arguments = {"engine": engine, **engine_arguments(config, rank, handshake)}
    command = [sys.executable, "-m", "vllm.engine"]
    return children.start(f"engine {rank}", command, arguments, passed, EngineStartError)


def engine_arguments(config: ServeConfig, rank: int, handshake: str) -> dict[str, Any]:
    """What engine `rank` is told besides its configuration."""
    parallel = config.parallel
    return {
        "handshake": handshake,
        "engine_index": rank,
        "local": not (parallel.headless or parallel.ray),
        "headless": parallel.headless,
        "log_format": config.frontend.log_format,
        # Beside a frontend, requests finish before the engine is told to stop.
        "shutdown_timeout": config.frontend.shutdown_timeout if parallel.headless else 0.0,
    }


@contextmanager
def _bound_router(sockets: EngineSockets) -> Iterator[zmq.Socket[Any]]:
    """The handshake's ROUTER: an engine that is started again comes to it too."""
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    try:
        sockets.handshake.listener.bind(router)
        yield router
    finally:
        router.close(linger=0)
        context.term()


def _show_example(http: HTTPSocket, name: str, with_key: bool) -> None:
    """A command to try, for whoever looks at the terminal."""
    key = " -H 'Authorization: Bearer KEY'" if with_key else ""
    where = f"--unix-socket {http.config.uds} http://localhost" if http.config.uds else http.url
    body = f'{{"model": "{name}", "stream": true, "temperature": 0, "messages": '
    body += '[{"role": "user", "content": "What is the capital of France?"}]}'
    say(
        f"try: curl -N {where}/v1/chat/completions -H 'Content-Type: application/json'{key} "
        f"-d '{body}'"
    )
