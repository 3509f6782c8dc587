# SPDX-License-Identifier: Apache-2.0
"""The engine's loop: take what frontends sent, step the core, hand out what came of it.

Owns which frontend a request belongs to, utility calls, and how the loop ends. Must not know
sockets or bytes (``sockets`` does), nor how a step is made (the core does). Runs on the main thread
and sleeps on its inbox while there is nothing to do.
"""

from __future__ import annotations

import enum
import inspect
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Protocol, get_type_hints

import msgspec

from vllm.engine.sockets import Incoming, Outgoing, request_failure
from vllm.engine.utilities import DEFAULT_WEIGHT_VERSION
from vllm.engine.watchdog import Watchdog
from vllm.errors import RequestError
from vllm.logging import init_logger
from vllm.protocol.errors import SHUTTING_DOWN, VALIDATION_ERROR
from vllm.protocol.messages import (
    EngineCoreOutput,
    EngineCoreOutputs,
    EngineCoreReadyResponse,
    EngineCoreRequest,
    RequestType,
    SchedulerStats,
    UtilityOutput,
    UtilityRequest,
    UtilityResult,
)

logger = init_logger(__name__)

IS_SHUTTING_DOWN = "the engine is shutting down"


class Core(Protocol):
    """What the loop drives; ``vllm.engine.core.EngineCore`` is one.

    Its other public methods are utility calls. All are called from the loop's thread.
    """

    def registration(self) -> EngineCoreReadyResponse: ...
    def add_request(self, request: EngineCoreRequest) -> None: ...
    def abort_requests(self, ids: Iterable[str]) -> None: ...
    def has_work(self) -> bool: ...
    def step(self) -> list[EngineCoreOutput]: ...
    def stats(self) -> SchedulerStats | None: ...
    def watch(self, on_lost: Callable[[], None]) -> None: ...
    def close(self) -> None: ...


LOOP_METHODS = frozenset(name for name in vars(Core) if not name.startswith("_")) | {
    "schedule",
    "execute",
    "sample",
    "output",
    "abort_all",
    "clear_cache",
    "refuse_if_paused",
}
"""Methods of a core that are no utilities: called from outside, they would disturb the loop."""


class Stopping(enum.Enum):
    """How far the end of the loop has come."""

    NO = "no"
    DRAINING = "draining"
    NOW = "now"


class EngineLoop:
    """Runs a core until it is told to stop."""

    def __init__(
        self,
        core: Core,
        inbox: SimpleQueue[Incoming | None],
        outbox: SimpleQueue[Outgoing | None],
        engine_index: int = 0,
        shutdown_timeout_s: float = 0.0,
        step_limit_s: float = 0.0,
    ) -> None:
        self._core, self._inbox, self._outbox = core, inbox, outbox
        self._watchdog = Watchdog(step_limit_s, lambda: getattr(core, "step_shape", ""))
        self._index = engine_index
        self._shutdown_timeout_s = shutdown_timeout_s
        self._clients: dict[str, int] = {}  # request id -> frontend, for every request in the core
        self._calls: list[tuple[int, UtilityRequest, Future[Any]]] = []  # not answered yet
        self._stopping = Stopping.NO
        self._deadline = 0.0

    def stop(self) -> None:
        """Begin to end; may be called from a signal handler. A second call ends draining."""
        drain = self._stopping is Stopping.NO and self._shutdown_timeout_s > 0
        self._stopping = Stopping.DRAINING if drain else Stopping.NOW
        self._deadline = time.monotonic() + self._shutdown_timeout_s
        self._inbox.put(None)  # only to wake the loop

    def run(self) -> None:
        """Serve until stopped. Whatever the core raises in a step comes out of here."""
        self._watchdog.start()
        try:
            self._serve()
        finally:
            self._watchdog.stop()

    def _serve(self) -> None:
        while not self._finished():
            has_work = self._take_messages()
            if has_work and self._stopping is not Stopping.NOW:
                self._step()
            self._answer_done_calls()
        self._abort_all()

    def _finished(self) -> bool:
        if self._stopping is Stopping.DRAINING:
            return not self._core.has_work() or time.monotonic() > self._deadline
        return self._stopping is Stopping.NOW

    # ------------------------------------------------------------------------------ messages in

    def _take_messages(self) -> bool:
        """Handle all messages that wait; wait for one if there is nothing else to do. Whether the
        core has work then.
        """
        had_work = self._core.has_work()
        if had_work and self._inbox.empty():
            return True
        self._handle(self._inbox.get())
        while not self._inbox.empty():  # nobody else takes from it
            self._handle(self._inbox.get())
        has_work = self._core.has_work()
        if had_work and not has_work:
            # The last request was aborted: no step will tell that nothing runs any more.
            self._send_outputs([])
        return has_work

    def _handle(self, item: Incoming | None) -> None:
        if item is None:  # only woke the loop
            return
        if item.kind is RequestType.ADD:
            self._add(item.client, item.message)
        elif item.kind is RequestType.ABORT:
            self._abort(item.client, item.message)
        elif item.kind is RequestType.UTILITY:
            self._call(item.client, item.message)
        else:
            logger.debug("%s was ignored: waves belong to coordinated engines", item.kind.name)

    def _add(self, client: int, request: EngineCoreRequest) -> None:
        request_id = request.request_id
        if self._stopping is not Stopping.NO:
            self._reply(client, _stopped(request_id))
            return
        try:
            self._check(client, request)
            self._core.add_request(request)
        except Exception as error:
            if not isinstance(error, RequestError):
                logger.exception("request %s could not be added", request_id)
            self._reply(client, request_failure(request_id, error))
            return
        self._clients[request_id] = client

    def _check(self, client: int, request: EngineCoreRequest) -> None:
        if request.client_index != client:
            raise RequestError(
                VALIDATION_ERROR,
                f"client_index is {request.client_index} in a request of frontend {client}",
            )
        if request.request_id in self._clients and not request.resumable:
            raise RequestError(VALIDATION_ERROR, "request_id belongs to a request that is running")

    def _abort(self, client: int, ids: list[str]) -> None:
        known = [request_id for request_id in ids if self._clients.get(request_id) == client]
        for request_id in known:
            del self._clients[request_id]
        if known:
            logger.debug("frontend %d aborted %s", client, ", ".join(known))
            self._core.abort_requests(known)

    def _abort_all(self) -> None:
        self._core.abort_requests(list(self._clients))
        outputs = [_stopped(request_id) for request_id in self._clients]
        self._send_outputs(outputs)
        self._clients.clear()
        self._end_calls()
        self._refuse_waiting()

    def _refuse_waiting(self) -> None:
        """Answer what arrived after the last step."""
        self._stopping = Stopping.NOW
        while not self._inbox.empty():
            self._handle(self._inbox.get())

    # ---------------------------------------------------------------------------- utility calls

    def _call(self, client: int, call: UtilityRequest) -> None:
        done: Future[Any] = Future()
        try:
            if self._stopping is not Stopping.NO:
                raise RequestError(SHUTTING_DOWN, IS_SHUTTING_DOWN)
            method = self._method(call.method)
            value = method(*_fit_arguments(method, call))
            if isinstance(value, Future):
                done = value
            else:
                done.set_result(value)
        except Exception as error:
            done.set_exception(error)
        if done.done():
            self._answer(client, call, done)
        else:
            self._calls.append((client, call, done))

    def _answer_done_calls(self) -> None:
        """Calls that had to wait for requests to end, after what these requests were sent."""
        if not self._calls:
            return
        waiting, self._calls = self._calls, []
        for client, call, done in waiting:
            if done.done():
                self._answer(client, call, done)
            else:
                self._calls.append((client, call, done))

    def _end_calls(self) -> None:
        for _, _, done in self._calls:
            if not done.done():
                done.set_exception(RequestError(SHUTTING_DOWN, IS_SHUTTING_DOWN))
        self._answer_done_calls()

    def _answer(self, client: int, call: UtilityRequest, done: Future[Any]) -> None:
        reply = UtilityOutput(call.call_id)
        error = done.exception()
        if error is None:
            reply.result = UtilityResult(value=done.result())
        elif isinstance(error, RequestError):
            reply.failure_message = error.message
        else:
            logger.error("utility call %s failed", call.method[:64], exc_info=error)
            reply.failure_message = f"{call.method[:64]} failed: {type(error).__name__}: {error}"
        message = EngineCoreOutputs(self._index, timestamp=time.monotonic(), utility_output=reply)
        self._outbox.put(Outgoing(client, message))

    def _method(self, name: str) -> Any:
        method = None
        if not name.startswith("_") and name not in LOOP_METHODS:
            method = getattr(self._core, name, None)
        if not callable(method):
            raise RequestError("not_supported", f"the engine has no utility {name[:64]!r}")
        return method

    # ----------------------------------------------------------------------------- messages out

    def _step(self) -> None:
        self._watchdog.begin()
        outputs = self._core.step()
        self._watchdog.end()
        self._send_outputs(outputs)

    def _send_outputs(self, outputs: Iterable[EngineCoreOutput]) -> None:
        """One message per frontend; the first one carries the statistics of the step."""
        messages: dict[int, EngineCoreOutputs] = {}
        clients = self._clients
        for output in outputs:
            find = clients.get if output.finish_reason is None else clients.pop
            client = find(output.request_id, None)
            if client is None:
                continue  # aborted since
            if client not in messages:
                messages[client] = self._message()
            messages[client].outputs.append(output)
        stats = self._core.stats()
        if stats is not None:
            if not messages:
                messages[0] = self._message()
            next(iter(messages.values())).scheduler_stats = stats
        for client, message in messages.items():
            self._outbox.put(Outgoing(client, message))

    def _reply(self, client: int, output: EngineCoreOutput) -> None:
        message = self._message()
        message.outputs.append(output)
        self._outbox.put(Outgoing(client, message))

    def _message(self) -> EngineCoreOutputs:
        return EngineCoreOutputs(
            self._index,
            timestamp=time.monotonic(),
            weight_version=getattr(self._core, "weight_version", DEFAULT_WEIGHT_VERSION),
        )


def _stopped(request_id: str) -> EngineCoreOutput:
    """The end of a request that the engine's own end cuts short: no success, to be sent again."""
    return EngineCoreOutput.failure(request_id, IS_SHUTTING_DOWN, SHUTTING_DOWN, retryable=True)


def _fit_arguments(method: Any, call: UtilityRequest) -> list[Any]:
    """The call's arguments, checked for their number and converted to what the method declares.

    Raises:
        RequestError: too many or too few arguments, or one that cannot be converted.
    """
    try:
        bound = inspect.signature(method).bind(*call.args)
    except TypeError as error:
        raise RequestError(
            VALIDATION_ERROR, f"{call.method[:64]} got {len(call.args)} arguments: {error}"
        ) from error
    hints = get_type_hints(method)
    return [
        _convert(call.method, name, value, hints.get(name, Any))
        for name, value in zip(bound.signature.parameters, call.args, strict=False)
    ]


def _convert(method: str, name: str, value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise RequestError(
            VALIDATION_ERROR, f"{method[:64]}: argument {name} is not valid: {error}"
        ) from error
