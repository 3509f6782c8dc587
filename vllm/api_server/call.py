# SPDX-License-Identifier: Apache-2.0
"""One HTTP request on its way to a handler, and the state that handlers share."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TypeVar

from starlette.requests import ClientDisconnect
from starlette.requests import Request as HTTPRequest

from vllm.api_server.errors import ApiError, bad_field, bad_request, model_not_found, too_large
from vllm.api_server.limits import MAX_ID_BYTES
from vllm.api_server.metrics import Metrics
from vllm.api_server.model import Model
from vllm.api_server.requests import Request
from vllm.protocol.client import AsyncEngineClient

T = TypeVar("T")


@dataclass
class State:
    """What all requests share."""

    model: Model
    client: AsyncEngineClient
    metrics: Metrics
    max_body: int
    max_logprobs: int
    thinking_budgets: bool = False
    keys: tuple[str, ...] = field(default=(), repr=False)
    public_metrics: bool = False
    id_headers: bool = False
    prompt_tokens_details: bool = False
    started: int = field(default_factory=lambda: int(time.time()))
    running: int = 0

    def check(self, request: Request) -> None:
        """Checks that depend on the server's settings. Raises ApiError."""
        self.check_model(request.get("model"))
        for name, value in (
            ("logprobs", request.logprobs),
            ("prompt_logprobs", request.get("prompt_logprobs")),
            ("logprob_token_ids", len(request.get("logprob_token_ids", ()))),
        ):
            if value is not None and 0 <= self.max_logprobs < value:
                raise ApiError(
                    400,
                    f"{value} log probabilities per token were asked for; this server gives at "
                    f"most {self.max_logprobs}.",
                    param=name,
                )
        if request.get("thinking_token_budget", -1) >= 0 and not self.thinking_budgets:
            raise bad_field(
                "thinking_token_budget",
                "`thinking_token_budget` needs a server that knows where the model's thoughts "
                "begin and end: one started with --reasoning-config. Leave it out.",
                "unsupported_field",
            )

    def check_model(self, name: str | None) -> None:
        if name is not None and name not in self.model.names:
            raise model_not_found(name)


@dataclass
class Call:
    """A request with its state; `rest` is what followed the route's path."""

    state: State
    http: HTTPRequest
    rest: str = ""
    id: str = ""

    def __post_init__(self) -> None:
        """The id is the header's, where it is one word that can be shown, else a random one."""
        header = self.http.headers.get("x-request-id", "")
        shown = 0 < len(header) <= MAX_ID_BYTES and header.isascii() and header.isprintable()
        self.id = header if shown and " " not in header else uuid.uuid4().hex

    async def body(self) -> bytes:
        """The whole body within the limit. Raises ApiError."""
        announced = self.http.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self.state.max_body:
            raise too_large(self.state.max_body)
        parts, size = [], 0
        try:
            async for part in self.http.stream():
                size += len(part)
                if size > self.state.max_body:
                    raise too_large(self.state.max_body)
                parts.append(part)
        except ClientDisconnect:
            raise bad_request("The request body broke off.") from None
        return b"".join(parts)

    def take_id(self, own: str | None) -> None:
        """From here on, in answer, head and log, the client's own id is the request's."""
        self.id = self.id if own is None else own

    async def unless_gone(self, work: Awaitable[T]) -> T:
        """Await `work`, but cancel it when the client goes away; call after the body was read."""
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(self._gone())
        try:
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise ClientDisconnect
        finally:
            for each in (task, gone):
                each.cancel()
            await asyncio.gather(task, gone, return_exceptions=True)

    async def _gone(self) -> None:
        while (await self.http.receive())["type"] != "http.disconnect":
            pass
