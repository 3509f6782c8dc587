# SPDX-License-Identifier: Apache-2.0
"""The table of routes: who may call each, and which known ones are not served and why."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.responses import Response

from vllm import envs
from vllm.api_server import handlers
from vllm.api_server.call import Call
from vllm.api_server.errors import ApiError, bad_request

Handle = Callable[[Call], Awaitable[Response]]
OPEN, KEY, METRICS = "open", "key", "metrics"  # who may call: all, holders of a key, see flag


@dataclass(frozen=True)
class Route:
    """One row; `path` may end in `{id}`. Without `handle` it is known and not served. `body`: it
    takes JSON.
    """

    method: str
    path: str
    access: str = KEY
    handle: Handle | None = None
    unserved: str = ""
    body: bool = False


_LATER = "this API is not served yet; use /v1/chat/completions"
_NO_TASK = "the model generates text; it has no such task"
_NO_LORA = "the engine has no adapters yet"
_RUST = "the Python frontend does not serve it; the Rust frontend does"
_OPERATOR = "the Python frontend has no routes for operators; the Rust frontend has"

_UNSERVED = {
    ("GET", "/"): _RUST,
    ("GET", "/openapi.json"): _RUST,
    ("GET", "/docs"): _RUST,
    ("GET", "/tokenizer_info"): _RUST,
    ("POST", "/v1/responses"): _LATER,
    ("GET", "/v1/responses/{id}"): _LATER,
    ("DELETE", "/v1/responses/{id}"): _LATER,
    ("POST", "/v1/responses/{id}"): _LATER,
    ("POST", "/v1/messages"): _LATER,
    ("POST", "/v1/messages/count_tokens"): _LATER,
    ("POST", "/v1/chat/completions/render"): _RUST,
    ("POST", "/v1/completions/render"): _RUST,
    ("POST", "/v1/chat/completions/batch"): _LATER,
    ("POST", "/inference/v1/generate"): _RUST,
    ("POST", "/v1/load_lora_adapter"): _NO_LORA,
    ("POST", "/v1/unload_lora_adapter"): _NO_LORA,
    ("POST", "/v1/files"): _LATER,
    ("GET", "/v1/files"): _LATER,
    ("POST", "/v1/batches"): _LATER,
    ("GET", "/v1/batches"): _LATER,
}
_TASKS = (
    "/v1/embeddings",
    "/pooling",
    "/score",
    "/v1/score",
    "/rerank",
    "/v1/rerank",
    "/v2/rerank",
    "/classify",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
)
_OPERATORS = (
    ("POST", "/reset_prefix_cache"),
    ("POST", "/sleep"),
    ("POST", "/wake_up"),
    ("GET", "/is_sleeping"),
    ("POST", "/pause"),
    ("POST", "/resume"),
    ("GET", "/is_paused"),
    ("POST", "/collective_rpc"),
    ("POST", "/start_profile"),
    ("POST", "/stop_profile"),
    ("GET", "/server_info"),
)

ROUTES: tuple[Route, ...] = (
    Route("POST", "/v1/chat/completions", KEY, handlers.chat, body=True),
    Route("POST", "/v1/completions", KEY, handlers.completions, body=True),
    Route("POST", "/tokenize", KEY, handlers.tokenize, body=True),
    Route("POST", "/detokenize", KEY, handlers.detokenize, body=True),
    Route("GET", "/v1/models", KEY, handlers.models),
    Route("GET", "/v1/models/{id}", KEY, handlers.model),
    Route("GET", "/health", OPEN, handlers.ready),
    Route("GET", "/ready", OPEN, handlers.ready),
    Route("GET", "/live", OPEN, handlers.live),
    Route("GET", "/ping", OPEN, handlers.ready),
    Route("POST", "/ping", OPEN, handlers.ready),
    Route("GET", "/version", OPEN, handlers.version),
    Route("GET", "/metrics", METRICS, handlers.metrics),
    Route("GET", "/load", KEY, handlers.load),
    *(Route(method, path, unserved=why) for (method, path), why in _UNSERVED.items()),
    *(Route("POST", path, unserved=_NO_TASK) for path in _TASKS),
    *(Route(method, path, unserved=_OPERATOR) for method, path in _OPERATORS),
)


def find(method: str, path: str) -> tuple[Route, str]:
    """The route of a request and what followed its path. Raises ApiError 404 or 405."""
    method = "GET" if method == "HEAD" else method
    others = []
    for route in ROUTES:
        rest = _rest(route.path, path)
        if rest is not None and route.method == method:
            return route, rest
        if rest is not None:
            others.append(route.method)
    if method == "CONNECT":
        raise bad_request("CONNECT asks for a tunnel, and this server is no proxy.")
    if not others:
        raise ApiError(404, f"There is nothing at {path[:64]}.", code="not_found")
    allowed = ", ".join(others)
    raise ApiError(
        405,
        f"{path} takes {allowed}, not {method}.",
        code="method_not_allowed",
        allow=allowed,
    )


def unserved(route: Route) -> ApiError:
    """501 for a route that is known and not served."""
    why = f"is known but not served: {route.unserved}."
    if route.unserved == _OPERATOR and not envs.VLLM_SERVER_DEV_MODE:
        why = "is served only with VLLM_SERVER_DEV_MODE=1."
    return ApiError(
        501,
        f"{route.method} {route.path} {why}",
        kind="not_implemented_error",
        code="not_implemented",
    )


def _rest(route: str, path: str) -> str | None:
    """What follows a route's path; None when the route is another."""
    if not route.endswith("{id}"):
        return "" if route == path else None
    prefix = route.removesuffix("{id}")
    return path.removeprefix(prefix) if path.startswith(prefix) and path != prefix else None
