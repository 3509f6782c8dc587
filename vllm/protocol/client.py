# SPDX-License-Identifier: Apache-2.0
"""A frontend's end of the wire, on asyncio: submit requests, abort them, call utilities.

Owns the sockets, which engine gets a request, and what happens to requests when their engine goes
away. Must not know text, HTTP or processes. One client per event loop; none of it is thread-safe.

    client = await AsyncEngineClient.connect(input=listen_ipc(), output=listen_ipc())
    async with client.submit(request) as outputs:   # leaving the block aborts what is unfinished
        async for output in outputs: ...
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import zmq
import zmq.asyncio
from zmq.utils.monitor import recv_monitor_message

from vllm import envs
from vllm.logging import init_logger
from vllm.protocol.codec import MAX_FRAME_BYTES, Decoder, Encoder, OutputsDecoder, is_death
from vllm.protocol.errors import DecodeError, EngineDeadError, HandshakeError, UtilityError
from vllm.protocol.handshake import HandshakeOwner, engine_identity, engine_index
from vllm.protocol.listeners import Listener
from vllm.protocol.messages import (
    EngineCoreOutput,
    EngineCoreOutputs,
    EngineCoreReadyResponse,
    EngineCoreRequest,
    RequestType,
    SchedulerStats,
    UtilityOutput,
    UtilityRequest,
)
from vllm.protocol.silence import Patience, Pulse

logger = init_logger(__name__)

READY_TIMEOUT_S = 600.0
"""How long to wait for the next registration; starts anew with every one that arrives."""
MAX_WAITING_OUTPUTS = 65_536
"""Outputs of one request that nobody takes; the request is aborted beyond it."""
DISCONNECT_PROBES_S = (0.1, 0.2, 1.0)
"""Pauses before each look at who is still there after a connection broke; the first one lets the
engine's last words arrive on the other socket."""
QUESTION = "is_sleeping"
"""The call that every engine of this wire answers between two steps and that changes nothing."""
QUESTION_ID = 0
"""Its id: nobody waits for the reply, which is a message like any other."""

Address = Listener | str


@dataclass(frozen=True)
class Registration:
    """What all engines together can do."""

    max_model_len: int  # least of all engines, tokens
    num_gpu_blocks: int  # sum
    block_size: int
    dtype: str
    vllm_version: str
    engines: dict[int, EngineCoreReadyResponse]

    @classmethod
    def combine(cls, engines: dict[int, EngineCoreReadyResponse]) -> Registration:
        first = next(iter(engines.values()))
        return cls(
            max_model_len=min(engine.max_model_len for engine in engines.values()),
            num_gpu_blocks=sum(engine.num_gpu_blocks for engine in engines.values()),
            block_size=first.block_size,
            dtype=first.dtype,
            vllm_version=first.vllm_version,
            engines=dict(engines),
        )


@dataclass
class _Engine:
    """One engine as seen from here; ``failure`` says why it cannot be used."""

    index: int
    registration: EngineCoreReadyResponse
    failure: str | None = None
    streams: dict[str, OutputStream] = field(default_factory=dict)
    calls: dict[int, asyncio.Future[Any]] = field(default_factory=dict)
    stats: SchedulerStats | None = None
    cache_queries: int = 0
    cache_hits: int = 0
    pulse: Pulse = field(default_factory=Pulse)
    silent: bool = False  # the failure is silence, which any message ends

    @property
    def identity(self) -> bytes:
        return engine_identity(self.index)

    def note(self, stats: SchedulerStats) -> None:
        """Keep the newest state; look-ups are counted since the last message, so they add up."""
        self.stats = stats
        self.cache_queries += stats.prefix_cache_stats.queries
        self.cache_hits += stats.prefix_cache_stats.hits


class OutputStream:
    """The outputs of one request, in order; the last one is ``finished``.

    Iterating raises ``EngineDeadError`` when the engine is lost. Closing it early aborts.
    """

    def __init__(self, request_id: str, abort: Callable[[], None]) -> None:
        self.request_id = request_id
        self._abort = abort
        self._outputs: deque[EngineCoreOutput] = deque()
        self._arrived = asyncio.Event()
        self._error: Exception | None = None
        self._ended = False
        self.started = False  # an output came: the prompt is done

    def __aiter__(self) -> AsyncIterator[EngineCoreOutput]:
        return self

    async def __anext__(self) -> EngineCoreOutput:
        while not self._outputs:
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            if self._ended:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._outputs.popleft()

    async def __aenter__(self) -> OutputStream:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def aclose(self) -> None:
        self.close()

    def close(self) -> None:
        """Take no more outputs; aborts the request in the engine unless it is over."""
        if not self._ended:
            self._end()
            self._abort()
        self._outputs.clear()

    def _put(self, output: EngineCoreOutput) -> None:
        self.started = True
        self._outputs.append(output)
        if output.finished:
            self._end()
        elif len(self._outputs) > MAX_WAITING_OUTPUTS:
            self.close()
            self._fail(EngineDeadError(f"nobody took {MAX_WAITING_OUTPUTS} outputs of a request"))
        self._arrived.set()

    def _fail(self, error: Exception) -> None:
        self._error = error
        self._end()

    def _end(self) -> None:
        self._ended = True
        self._arrived.set()


class AsyncEngineClient:
    """Speaks with one or more engines; make it with ``connect`` or ``connect_owning_handshake``."""

    def __init__(self, client_index: int = 0, patience: Patience | None = None) -> None:
        self._client_index = client_index
        self._patience = patience or Patience()
        self._context = zmq.asyncio.Context()
        self._input = self._socket(zmq.ROUTER)
        self._input.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._output = self._socket(zmq.PULL)
        self._monitor = self._input.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._expected: set[int] = set()
        self._engines: dict[int, _Engine] = {}
        self._registered = asyncio.Event()
        self._encoder = Encoder(envs.VLLM_MSGPACK_ZERO_COPY_THRESHOLD)
        self._outputs = OutputsDecoder()
        self._registrations = Decoder(EngineCoreReadyResponse)
        self._call_ids = itertools.count(1)
        self._tasks: list[asyncio.Task[None]] = []

    # ------------------------------------------------------------------------------ start and end

    @classmethod
    async def connect(
        cls,
        *,
        input: Address,
        output: Address,
        engine_start_index: int = 0,
        engine_count: int = 1,
        client_index: int = 0,
        ready_timeout: float = READY_TIMEOUT_S,
        patience: Patience | None = None,
    ) -> AsyncEngineClient:
        """Serve the two addresses and wait until every expected engine has registered.

        Addresses are listeners to adopt or ZeroMQ addresses to bind; somebody else leads the
        handshake. ``patience``: how long an engine may be silent; any time by default.

        Raises:
            HandshakeError: no registration for ``ready_timeout`` seconds, or one that cannot be
                read or was not expected.
        """
        client = cls(client_index, patience)
        try:
            indices = set(range(engine_start_index, engine_start_index + engine_count))
            client._bind(input, output, indices)
            await client._wait_for_registrations(indices, ready_timeout)
        except BaseException:
            await client.close()
            raise
        return client

    @classmethod
    async def connect_owning_handshake(
        cls,
        *,
        handshake: Address,
        owner: HandshakeOwner,
        input: Address,
        output: Address,
        ready_timeout: float = READY_TIMEOUT_S,
        patience: Patience | None = None,
    ) -> AsyncEngineClient:
        """As ``connect``, and lead the handshake on ``handshake`` too.

        ``owner`` names the engines and holds the INIT with the addresses of ``input``, ``output``.
        """
        client = cls(patience=patience)
        try:
            indices = set(owner.waiting_for_ready)
            client._bind(input, output, indices)
            lead = asyncio.create_task(client._lead_handshake(handshake, owner))
            client._tasks.append(lead)
            await client._wait_for_registrations(indices, ready_timeout, lead)
        except BaseException:
            await client.close()
            raise
        return client

    async def close(self) -> None:
        """Abort what runs, stop and release the sockets."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for engine in self._engines.values():
            for stream in list(engine.streams.values()):
                stream.close()
            self._lose(engine, "the client was closed")
        self._input.disable_monitor()
        self._monitor.close(0)
        self._context.destroy(linger=1000)

    async def __aenter__(self) -> AsyncEngineClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    # --------------------------------------------------------------------------------- the engines

    @property
    def registration(self) -> Registration:
        """What the engines that registered can do together."""
        return Registration.combine(
            {index: engine.registration for index, engine in self._engines.items()}
        )

    @property
    def health(self) -> dict[int, str | None]:
        """For every engine ``None``, or why it cannot be used."""
        return {index: engine.failure for index, engine in self._engines.items()}

    @property
    def healthy(self) -> bool:
        """Whether any engine takes requests."""
        return any(failure is None for failure in self.health.values())

    @property
    def stats(self) -> dict[int, SchedulerStats]:
        """The latest statistics of every engine that sent some."""
        engines = self._engines.items()
        return {index: engine.stats for index, engine in engines if engine.stats is not None}

    @property
    def cache_look_ups(self) -> dict[int, tuple[int, int]]:
        """Prompt tokens looked up and found in every engine's prefix cache since the start."""
        engines = self._engines.items()
        return {index: (engine.cache_queries, engine.cache_hits) for index, engine in engines}

    def submit(self, request: EngineCoreRequest) -> OutputStream:
        """Send a request to the engine it names, or to the least busy one.

        ``client_index`` is filled in. Close the stream (or leave its ``async with``) to abort.

        Raises:
            EngineDeadError: no engine takes requests.
            EncodeError: the request has no form on the wire.
            ValueError: a request of this id is running.
        """
        engine = self._choose(request.data_parallel_rank)
        request_id = request.request_id
        if request_id in engine.streams:
            raise ValueError(f"request id {request_id!r} is in use")
        request.client_index = self._client_index
        stream = OutputStream(request_id, lambda: self._abort(engine, request_id))
        engine.streams[request_id] = stream
        try:
            self._send(engine, RequestType.ADD, request)
        except BaseException:
            del engine.streams[request_id]
            raise
        return stream

    async def utility(self, method: str, *args: Any, timeout: float | None = None) -> list[Any]:
        """Call a method of every engine; the results in order of their indices.

        Raises:
            UtilityError: an engine answered with a failure.
            EngineDeadError: an engine is lost, or none is left.
            TimeoutError: not all answered within ``timeout`` seconds.
        """
        engines = [engine for engine in self._engines.values() if engine.failure is None]
        if not engines:
            raise EngineDeadError(self._why_none())
        calls = [self._start_call(engine, method, args) for engine in engines]
        try:
            return list(await asyncio.wait_for(asyncio.gather(*calls), timeout))
        finally:
            for engine in engines:
                for call_id in [key for key, call in engine.calls.items() if call.done()]:
                    del engine.calls[call_id]

    # -------------------------------------------------------------------------------------- inside

    def _socket(self, kind: int) -> zmq.asyncio.Socket:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        return socket

    def _bind(self, input: Address, output: Address, indices: set[int]) -> None:
        self._expected = indices
        _bind(self._input, input)
        _bind(self._output, output)
        for loop in (self._read_registrations, self._read_outputs, self._watch_connections):
            self._tasks.append(asyncio.create_task(_keep_going(loop)))
        if self._patience.silence:
            self._tasks.append(asyncio.create_task(_keep_going(self._watch_silence)))

    async def _wait_for_registrations(
        self, indices: set[int], timeout: float, lead: asyncio.Task[None] | None = None
    ) -> None:
        while missing := indices - set(self._engines):
            arrival = asyncio.create_task(self._registered.wait())
            leading = {lead} if lead is not None and not lead.done() else set()
            done, _ = await asyncio.wait(
                {arrival, *leading}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
            )
            arrival.cancel()
            if lead is not None and lead.done():
                lead.result()  # raises what went wrong
            if not done:
                shown = ", ".join(map(str, sorted(missing)))
                raise HandshakeError(f"engine {shown} did not register within {timeout:g} s")
            self._registered.clear()

    async def _lead_handshake(self, address: Address, owner: HandshakeOwner) -> None:
        socket = self._socket(zmq.ROUTER)
        _bind(socket, address)
        while not owner.done:
            identity, *frames = await socket.recv_multipart()
            answer = owner.receive(identity, frames[-1] if frames else b"")
            if answer is not None:
                await socket.send_multipart([identity, answer])
        socket.close(1000)

    async def _read_registrations(self) -> None:
        identity, *frames = await self._input.recv_multipart()
        try:
            index = engine_index(identity)
            registration = self._registrations.decode(frames)
        except (DecodeError, HandshakeError) as error:
            logger.error("a registration was ignored: %s", error)
            return
        if index not in self._expected:
            logger.error("the registration of engine %d was ignored: it is not expected", index)
            return
        if (old := self._engines.get(index)) is not None:
            self._lose(old, f"engine {index} was started again")
        self._engines[index] = _Engine(index, registration)
        self._engines = dict(sorted(self._engines.items()))
        self._registered.set()

    async def _read_outputs(self) -> None:
        frames = await self._output.recv_multipart()
        if is_death(frames):
            # The frame does not say whose it is; among several, the lost connection will.
            if len(self._engines) == 1:
                for engine in self._engines.values():
                    self._lose(engine, f"engine {engine.index} ended because of an error")
            return
        try:
            message = self._outputs.decode(frames)
        except DecodeError as error:
            logger.error("a message of an engine was dropped: %s", error)
            return
        sender = self._engines.get(message.engine_index)
        if sender is not None:
            self._dispatch(sender, message)

    def _dispatch(self, engine: _Engine, message: EngineCoreOutputs) -> None:
        engine.pulse.beat()
        if engine.silent:
            engine.silent, engine.failure = False, None
            logger.info("engine %d answers again", engine.index)
        if message.scheduler_stats is not None:
            engine.note(message.scheduler_stats)
        for output in message.outputs:
            stream = engine.streams.get(output.request_id)
            if stream is not None:
                if output.finished:
                    del engine.streams[output.request_id]
                stream._put(output)
        for request_id in message.finished_requests or ():
            stream = engine.streams.pop(request_id, None)
            if stream is not None:
                stream._fail(EngineDeadError("the engine ended a request without a reason"))
        if message.utility_output is not None:
            self._finish_call(engine, message.utility_output)

    async def _watch_connections(self) -> None:
        await recv_monitor_message(self._monitor)
        for pause in DISCONNECT_PROBES_S:
            await asyncio.sleep(pause)
            for engine in list(self._engines.values()):
                if engine.failure is None and not self._reachable(engine):
                    self._lose(engine, f"engine {engine.index} closed its connection")

    def _reachable(self, engine: _Engine) -> bool:
        """Whether the engine is connected: an abort of nothing can be sent to it."""
        try:
            self._send(engine, RequestType.ABORT, [])
        except EngineDeadError:
            return False
        return True

    async def _watch_silence(self) -> None:
        await asyncio.sleep(self._patience.turn)
        for engine in list(self._engines.values()):
            # A call may take minutes, as sleep does, and nothing else is answered meanwhile.
            if engine.failure is None and not engine.calls:
                self._look(engine)

    def _look(self, engine: _Engine) -> None:
        """Ask an engine that shows nothing; lose one that does not answer in time."""
        prompting = any(not stream.started for stream in engine.streams.values())
        if engine.pulse.look(self._patience, prompting):
            limit = self._patience.limit(prompting)
            self._lose_silent(engine, f"engine {engine.index} did not answer within {limit:g} s")
        elif engine.pulse.is_to_be_asked:
            question = UtilityRequest(self._client_index, QUESTION_ID, QUESTION, [])
            self._send_if_there(engine, RequestType.UTILITY, question)

    def _lose_silent(self, engine: _Engine, reason: str) -> None:
        """It may wake up: its requests are aborted, and its next message brings it back."""
        logger.error("%s", reason)
        left = list(engine.streams)
        engine.silent = True
        self._lose(engine, reason)
        self._send_if_there(engine, RequestType.ABORT, left)

    def _choose(self, rank: int | None) -> _Engine:
        usable = [engine for engine in self._engines.values() if engine.failure is None]
        if rank is not None:
            usable = [engine for engine in usable if engine.index == rank]
        if not usable:
            raise EngineDeadError(self._why_none())
        return min(usable, key=lambda engine: (len(engine.streams), engine.index))

    def _why_none(self) -> str:
        reasons = [failure for failure in self.health.values() if failure is not None]
        return "; ".join(reasons) or "no such engine"

    def _abort(self, engine: _Engine, request_id: str) -> None:
        if engine.streams.pop(request_id, None) is not None and engine.failure is None:
            try:
                self._send(engine, RequestType.ABORT, [request_id])
            except EngineDeadError as error:
                self._lose(engine, str(error))

    def _start_call(
        self, engine: _Engine, method: str, args: Iterable[Any]
    ) -> Coroutine[Any, Any, Any] | asyncio.Future[Any]:
        call_id = next(self._call_ids)
        call = UtilityRequest(self._client_index, call_id, method, list(args))
        engine.calls[call_id] = asyncio.get_running_loop().create_future()
        self._send(engine, RequestType.UTILITY, call)
        return engine.calls[call_id]

    def _finish_call(self, engine: _Engine, reply: UtilityOutput) -> None:
        call = engine.calls.pop(reply.call_id, None)
        if call is None or call.done():
            return
        if reply.failure_message is not None or reply.result is None:
            call.set_exception(UtilityError(reply.failure_message or "the engine gave no result"))
        else:
            call.set_result(reply.result.value)

    def _lose(self, engine: _Engine, reason: str) -> None:
        engine.failure = engine.failure or reason
        streams, engine.streams = engine.streams, {}
        for stream in streams.values():
            stream._fail(EngineDeadError(reason))
        calls, engine.calls = engine.calls, {}
        for call in calls.values():
            if not call.done():
                call.set_exception(EngineDeadError(reason))

    def _send_if_there(self, engine: _Engine, kind: RequestType, message: Any) -> None:
        """An engine that cannot be reached is noticed by its connection."""
        with contextlib.suppress(EngineDeadError):
            self._send(engine, kind, message)

    def _send(self, engine: _Engine, kind: RequestType, message: Any) -> None:
        frames = [engine.identity, *self._encoder.encode_request(kind, message)]
        # Without a limit on what waits, a send is over at once, well or not.
        sent = asyncio.ensure_future(self._input.send_multipart(frames, copy=False))
        if sent.done() and (error := sent.exception()) is not None:
            raise EngineDeadError(f"engine {engine.index} cannot be reached: {error}") from error


def _bind(socket: zmq.asyncio.Socket, address: Address) -> None:
    if isinstance(address, Listener):
        address.bind(socket)
    else:
        socket.bind(address)


async def _keep_going(once: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Repeat ``once``; what it raises costs one message, never the client."""
    while True:
        try:
            await once()
        except zmq.ContextTerminated:
            return
        except Exception:
            logger.exception("a message of an engine was dropped")
