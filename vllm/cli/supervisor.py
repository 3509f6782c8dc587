# SPDX-License-Identifier: Apache-2.0
"""Start order, readiness, supervision and the end of the processes below `vllm serve`.

Owns when each child is started and stopped, signals, and which exit code the whole has. Must never
import torch, hold a request or know HTTP beyond one health check.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq

from vllm.cli import children
from vllm.cli.children import Child
from vllm.cli.health import HealthCheck
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
from vllm.logging import init_logger
from vllm.protocol.errors import HandshakeError
from vllm.protocol.handshake import HandshakeOwner
from vllm.protocol.messages import EngineAddresses, EngineInit

logger = init_logger(__name__)

POLL_MS = 100
STOP_GRACE_S = 5.0  # for a child to end after SIGTERM, beyond what its requests were given


class Stopped(Exception):
    """Somebody asked for the end."""


class ToldByChild(VLLMError):
    """A child ended and has told its cause; nothing is left to say."""

    def __init__(self, child: Child, code: ExitCode) -> None:
        super().__init__(child.describe_end())
        self.exit_code = code


@dataclass
class Supervisor:
    """The processes of one `vllm serve`. `binary` is the Rust frontend, None the Python one."""

    config: ServeConfig
    binary: Path | None
    signals: StopSignals
    engines: list[Child] = field(default_factory=list)
    frontend: Child | None = None
    started: float = field(default_factory=time.monotonic)

    def run(self) -> int:
        """Serve until asked to stop or a child ends. Returns the exit code; raises VLLMError."""
        http = open_http(self.config.http)
        try:
            with self._ending_children():
                self._start(http)
                http.sock.close()  # the port closes when the frontend closes it
                self._supervise()
        except Stopped:
            return self._stopped_code()
        finally:
            http.remove_file()
        return int(ExitCode.OK)

    # ---- start

    def _start(self, http: HTTPSocket) -> None:
        sockets = open_engine_sockets(self.config.parallel)
        try:
            self._start_engines(sockets)
            self._start_frontend(http, sockets)
            with _bound_router(sockets) as router:
                self._await_engines(router, sockets)
                self._await_frontend(http)
        finally:
            sockets.close()
        seconds = time.monotonic() - self.started
        logger.info("ready: %.1f s, serving %s on %s", seconds, self._name, http.url)
        _show_example(http, self._name, bool(self.config.frontend.api_key))

    @property
    def _name(self) -> str:
        return self.config.frontend.served_model_name[0]

    def _start_engines(self, sockets: EngineSockets) -> None:
        for rank in self.config.parallel.local_ranks:
            self.engines.append(
                start_engine(self.config, rank, sockets.handshake.address, sockets.passed)
            )

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

    def _await_engines(self, router: zmq.Socket[Any], sockets: EngineSockets) -> None:
        """Answer HELLO with the addresses until every engine has said READY."""
        addresses = EngineAddresses(
            inputs=[sockets.input.address], outputs=[sockets.output.address]
        )
        owner = HandshakeOwner(range(self.config.parallel.size), EngineInit(addresses=addresses))
        for _ in self._until(self.config.ready_timeout, "the engine"):
            if owner.done:
                return
            if not router.poll(POLL_MS):
                continue
            identity, *frames = router.recv_multipart()
            try:
                answer = owner.receive(identity, frames[-1] if frames else b"")
            except HandshakeError as error:
                raise EngineStartError(str(error)) from None
            if answer is not None:
                router.send_multipart([identity, answer])

    def _await_frontend(self, http: HTTPSocket) -> None:
        """Ask for `/health` until it says 200."""
        check = HealthCheck(http.connect)
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
            self._raise_if_ended(EngineStartError, FrontendStartError)
            yield
        error = EngineStartError if what == "the engine" else FrontendStartError
        raise error(
            f"{what} was not ready within {seconds:g} s; VLLM_ENGINE_READY_TIMEOUT_S sets it"
        )

    # ---- supervise

    def _supervise(self) -> None:
        poller = zmq.Poller()
        for child in self._all:
            poller.register(child.pidfd, zmq.POLLIN)
        poller.register(self.signals.fileno(), zmq.POLLIN)
        while True:
            self._raise_if_stopping()
            self._raise_if_ended(EngineDiedError, FrontendDiedError)
            poller.poll()

    @property
    def _all(self) -> list[Child]:
        return ([self.frontend] if self.frontend is not None else []) + self.engines

    def _raise_if_stopping(self) -> None:
        if self.signals.count:
            raise Stopped

    def _raise_if_ended(
        self, engine_error: type[VLLMError], frontend_error: type[VLLMError]
    ) -> None:
        """An engine's end first: a frontend may end because its engine did."""
        for child in [*self.engines, self.frontend]:
            if child is None or not child.ended:
                continue
            told = child.told_code
            if told is not None and engine_error is EngineStartError:
                raise ToldByChild(child, told)
            raise (frontend_error if child is self.frontend else engine_error)(child.describe_end())

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
        seconds = self.config.frontend.shutdown_timeout + STOP_GRACE_S
        self._end_frontend(seconds)
        # Engines have nothing left to finish where the frontend was here.
        with self._forced():
            children.stop(self.engines, STOP_GRACE_S if self.frontend else seconds)

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
                    self.engines.append(start_engine(self.config, rank, address, ()))
                self._supervise()
        except Stopped:
            return self._stopped_code()
        return int(ExitCode.OK)

    def _raise_if_ended(
        self, engine_error: type[VLLMError], frontend_error: type[VLLMError]
    ) -> None:
        """An engine that could not start has told why; one cannot tell from here when it is
        ready.
        """
        for child in self.engines:
            if child.ended and child.told_code is not None:
                raise ToldByChild(child, child.told_code)
        super()._raise_if_ended(engine_error, frontend_error)


def start_engine(config: ServeConfig, rank: int, handshake: str, passed: tuple[int, ...]) -> Child:
    """Start engine `rank`, which connects to the `handshake` address."""
    arguments = {
        "engine": config.engine.to_json(),
        "handshake": handshake,
        "engine_index": rank,
        "local": not config.parallel.headless,
        "headless": config.parallel.headless,
        "log_format": config.frontend.log_format,
        # Beside a frontend, requests finish before the engine is told to stop.
        "shutdown_timeout": config.frontend.shutdown_timeout if config.parallel.headless else 0.0,
    }
    command = [sys.executable, "-m", "vllm.engine"]
    return children.start(f"engine {rank}", command, arguments, passed, EngineStartError)


@contextmanager
def _bound_router(sockets: EngineSockets) -> Iterator[zmq.Socket[Any]]:
    """The handshake's ROUTER; needed until all engines are ready."""
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
    body = f'{{"model": "{name}", "stream": true, "messages": '
    body += '[{"role": "user", "content": "What is the capital of France?"}]}'
    print(
        f"try: curl -N {where}/v1/chat/completions -H 'Content-Type: application/json'{key} "
        f"-d '{body}'",
        file=sys.stderr,
        flush=True,
    )
