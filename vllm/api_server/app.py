# SPDX-License-Identifier: Apache-2.0
"""The ASGI application: finds the route, asks for the key, turns errors into OpenAI's shape."""

from __future__ import annotations

import hmac

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from vllm.api_server import errors, head
from vllm.api_server.call import Call, State
from vllm.api_server.errors import ApiError
from vllm.api_server.handlers import json_response
from vllm.api_server.routes import METRICS, OPEN, Route, find, unserved
from vllm.logging import init_logger

logger = init_logger(__name__)

CLIENT_GONE = 499  # nobody reads it; for logs and metrics


def build_app(state: State) -> Starlette:
    """The application that serves `state`."""

    async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(state, Request(scope, receive))
        response = await _respond(call)
        if state.id_headers:
            response.headers["x-request-id"] = call.id
        await response(scope, receive, send)

    return Starlette(routes=[Mount("/", app=endpoint)])


async def _respond(call: Call) -> Response:
    """Answer a request, whatever it is."""
    state, request = call.state, call.http
    name = "none"
    try:
        head.check_host(request)
        route, call.rest = find(request.method, request.url.path)
        name = route.path
        _permit(state, route, request)
        if route.handle is None:
            raise unserved(route)
        if route.body:
            head.check_body(request)
        response = await route.handle(call)
    except ApiError as error:
        response = _error_response(error)
    except ClientDisconnect:
        response = Response(status_code=CLIENT_GONE)
    except Exception:
        logger.exception("request %s: a handler failed on %s", call.id, name)
        response = _error_response(errors.internal())
    state.metrics.http[name, response.status_code] += 1
    return response


def _error_response(error: ApiError) -> Response:
    response = json_response(error.body(), error.status)
    if error.status == errors.no_key().status:
        response.headers["www-authenticate"] = "Bearer"
    if error.allow is not None:
        response.headers["allow"] = error.allow
    return response


def _permit(state: State, route: Route, request: Request) -> None:
    """Keys are compared in constant time, and all of them. A key says more about the sender than a
    browser does.
    """
    if route.access == OPEN or (route.access == METRICS and state.public_metrics):
        return
    if not state.keys:
        head.check_sender(request)
        return
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    sent = given.strip().encode("latin-1", "replace")
    matches = [hmac.compare_digest(key.encode(), sent) for key in state.keys]
    if scheme.lower() != "bearer" or not any(matches):
        raise errors.no_key()
