# SPDX-License-Identifier: Apache-2.0
"""One engine process: its start, its signals and its end.

Owns the order of things: handshake, load, register, ready, loop, farewell. Must not know HTTP, nor
how the model computes. The core is built by a function that is passed in, so that tests can drive
the process without a model.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from types import FrameType
from typing import Any, Literal

import msgspec
import zmq

from vllm import envs
from vllm.distributed.remote_ranks import RankListener
from vllm.engine.lifeline import watch_parent
from vllm.engine.loop import Core, EngineLoop
from vllm.engine.sockets import Incoming, InputReader, Outgoing, OutputWriter
from vllm.errors import ExitCode, UsageError, VLLMError
from vllm.logging import OnProgress, Progress, init_logger
from vllm.protocol.errors import HandshakeError
from vllm.protocol.handshake import INIT_TIMEOUT_S, EngineHandshake
from vllm.protocol.messages import EngineInit

logger = init_logger(__name__)

FAREWELL_S = 5.0
"""How long the last outputs may take to leave."""

CoreFactory = Callable[[dict[str, Any], OnProgress], Core]


@dataclass(frozen=True, kw_only=True)
class EngineArgs:
    """What a launcher tells an engine process, as one JSON object.

    engine: the fields of ``EngineConfig``.
    handshake: ZeroMQ address of the launcher's ROUTER.
    engine_index: the engine's rank, 0..65535, which is also its identity.
    local, headless: as told to the launcher in HELLO.
    shutdown_timeout: seconds in which requests may finish after SIGTERM; 0 aborts them.
    init_timeout: seconds to wait for the launcher's answer.
    parent: process whose end ends the engine; None means the process that started it.
    log_format: form of the log's lines, "text" or "json".
    ranks: where the engine's other ranks connect to; None: it starts them itself.
    """

    engine: dict[str, Any] = field(default_factory=dict)
    handshake: str
    engine_index: int = 0
    local: bool = True
    headless: bool = False
    shutdown_timeout: float = 0.0
    init_timeout: float = INIT_TIMEOUT_S
    parent: int | None = None
    log_format: Literal["text", "json"] = "text"
    ranks: RankListener | None = None


def read_args(text: bytes | str) -> EngineArgs:
    """Parse the launcher's JSON.

    Raises:
        UsageError: not an object of these keys, or values of the wrong type.
    """
    try:
        args = msgspec.json.decode(text, type=EngineArgs)
        unknown = set(msgspec.json.decode(text)) - set(EngineArgs.__dataclass_fields__)
    except msgspec.MsgspecError as error:
        raise UsageError(f"engine arguments: {error}") from error
    if unknown:
        raise UsageError(f"engine arguments: unknown keys {', '.join(sorted(unknown))}")
    return args


def run(args: EngineArgs, build_core: CoreFactory) -> ExitCode:
    """Be an engine until told to stop; returns the exit code of the process."""
    process = EngineProcess(args, build_core)
    try:
        return process.run()
    except (VLLMError, HandshakeError) as error:
        logger.error("the engine could not start: %s", error)
        return getattr(error, "exit_code", ExitCode.ENGINE_START)
    except Exception as error:
        logger.error("the engine could not start: %s: %s", type(error).__name__, error)
        logger.debug("trace of the failed start", exc_info=True)
        return ExitCode.ENGINE_START


class EngineProcess:
    """The parts of a running engine and the order in which they begin and end."""

    def __init__(self, args: EngineArgs, build_core: CoreFactory) -> None:
        self._args, self._build_core = args, build_core
        self._inbox: SimpleQueue[Incoming | None] = SimpleQueue()
        self._outbox: SimpleQueue[Outgoing | None] = SimpleQueue()
        self._loop: EngineLoop | None = None
        self._began = time.monotonic()

    def run(self) -> ExitCode:
        """Start, serve, end. Raises what went wrong before the engine was ready."""
        self._watch_signals()
        watch_parent(self._on_orphaned, self._args.parent)
        context: zmq.Context[Any] = zmq.Context()
        try:
            return self._serve(context)
        finally:
            context.destroy(linger=0)

    def _serve(self, context: zmq.Context[Any]) -> ExitCode:
        args = self._args
        handshake = EngineHandshake(
            context, args.handshake, args.engine_index, local=args.local, headless=args.headless
        )
        with contextlib.closing(handshake):
            init = handshake.hello(args.init_timeout)
            _refuse_coordination(init)
            core = self._build_core(args.engine, PhaseLog())
            reader, writer = self._connect(context, init)
            reader.register(core.registration())
            logger.info("ready: %.1f s", time.monotonic() - self._began)
            handshake.ready()
        return self._loop_until_stopped(core, reader, writer)

    def _connect(
        self, context: zmq.Context[Any], init: EngineInit
    ) -> tuple[InputReader, OutputWriter]:
        inputs, outputs = init.addresses.inputs, init.addresses.outputs
        if not inputs or len(inputs) != len(outputs):
            raise HandshakeError(
                f"INIT names {len(inputs)} input and {len(outputs)} output addresses; "
                "every frontend has one of each"
            )
        try:
            reader = InputReader(
                context, inputs, self._args.engine_index, self._inbox, self._outbox
            )
            return reader, OutputWriter(context, outputs, self._outbox)
        except zmq.ZMQError as error:
            raise HandshakeError(f"an address of INIT cannot be used: {error.strerror}") from error

    def _loop_until_stopped(
        self, core: Core, reader: InputReader, writer: OutputWriter
    ) -> ExitCode:
        self._loop = EngineLoop(
            core,
            self._inbox,
            self._outbox,
            self._args.engine_index,
            self._args.shutdown_timeout,
            envs.VLLM_ENGINE_ITERATION_TIMEOUT_S,
        )
        reader.start()
        writer.start()
        core.watch(lambda: self._inbox.put(None))
        try:
            self._loop.run()
            return ExitCode.OK
        except Exception as error:
            for client in range(writer.client_count):
                self._outbox.put(Outgoing(client, None))
            return _tell_end(error)
        finally:
            # In this order: a frontend takes the end of the input as the end of the engine.
            writer.close(FAREWELL_S)
            reader.close()
            core.close()

    # ---------------------------------------------------------------------------------- signals

    def _watch_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        # A signal that arrives just before the main thread goes to sleep would not wake it, so a
        # thread of its own puts something into the inbox; the handler then runs as usual.
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        threading.Thread(
            target=self._wake_on_signals, args=(reading,), name="signals", daemon=True
        ).start()

    def _wake_on_signals(self, descriptor: int) -> None:
        while os.read(descriptor, 1):
            self._inbox.put(None)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._loop is None:  # still starting: there is nothing to finish
            raise SystemExit(int(ExitCode.OK))
        self._loop.stop()

    def _on_orphaned(self) -> None:
        logger.error("the process that started this engine is gone; the engine ends")
        os.kill(os.getpid(), signal.SIGTERM)


class PhaseLog:
    """Logs one line per phase of the start with its time; a bar shows progress on a terminal."""

    def __init__(self) -> None:
        self._began: dict[str, float] = {}
        self._bars: dict[str, Progress] = {}

    def __call__(self, phase: str, done: float) -> None:
        began = self._began.setdefault(phase, time.monotonic())
        bar = self._bars.setdefault(phase, Progress(phase))
        bar.update(done)
        if done >= 1.0:
            bar.close()
            del self._began[phase], self._bars[phase]
            logger.info("%s: %.1f s", phase, time.monotonic() - began)


def _tell_end(error: Exception) -> ExitCode:
    """Log why the loop ended early; the exit code for it."""
    if isinstance(error, VLLMError):
        logger.error("the engine ends: %s", error)
        return error.exit_code
    logger.error("the engine ends because a step failed", exc_info=error)
    return ExitCode.INTERNAL


def _refuse_coordination(init: EngineInit) -> None:
    addresses = init.addresses
    if addresses.coordinator_input or addresses.coordinator_output or init.parallel_config:
        raise HandshakeError(
            "the launcher asks for coordinated data parallelism, which this engine does not "
            "support: start independent engines instead"
        )
