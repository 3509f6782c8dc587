# SPDX-License-Identifier: Apache-2.0
"""The one error a client sees: an HTTP status and OpenAI's error object."""

from __future__ import annotations

from typing import Any

SHOWN = 64  # characters of a client's text that a message repeats


class ApiError(Exception):
    """An error for a client; the message says what failed, on which value, the limit, what to
    do.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        kind: str = "invalid_request_error",
        allow: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.kind = status, message, kind
        self.param, self.code, self.allow = param, code, allow

    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error}


def bad_request(message: str) -> ApiError:
    """400 about the body as a whole."""
    return ApiError(400, message)


def bad_field(path: str, message: str, code: str | None = None) -> ApiError:
    """400 about one field."""
    return ApiError(400, message, param=path, code=code)


def model_not_found(model: str) -> ApiError:
    """404 for a model that is not served."""
    return ApiError(
        404,
        f"The model `{shorten(model)}` does not exist. GET /v1/models lists those that do.",
        param="model",
        code="model_not_found",
    )


def context_length(param: str, prompt: int, context: int) -> ApiError:
    """400 for a prompt that leaves no room for a token of output."""
    return bad_field(
        param,
        f"The prompt has {prompt} tokens, but the model's context holds {context} tokens and at "
        "least one must be left for the answer. Shorten the prompt.",
        "context_length_exceeded",
    )


def too_large(limit: int) -> ApiError:
    """413."""
    return ApiError(
        413,
        f"The request body is larger than {limit} bytes, the most that this server accepts.",
        code="body_too_large",
    )


def no_key() -> ApiError:
    """401."""
    return ApiError(
        401,
        "This server needs an API key: send the header `Authorization: Bearer KEY`.",
        code="invalid_api_key",
    )


def internal() -> ApiError:
    """500 with a fixed text; the reason is in the log."""
    return ApiError(
        500,
        "The server failed while handling this request. The server's log has the reason.",
        kind="server_error",
        code="internal_error",
    )


def engine_failed() -> ApiError:
    """500: the engine could not serve this request."""
    return ApiError(
        500,
        "The engine failed on this request. The server's log has the reason.",
        kind="server_error",
        code="engine_error",
    )


def no_engine() -> ApiError:
    """503 while no engine serves."""
    return ApiError(
        503,
        "No engine serves requests at the moment. Try again later.",
        kind="server_error",
        code="engine_unavailable",
    )


def engine_lost() -> ApiError:
    """503 for a request whose engine ended."""
    return ApiError(
        503,
        "The engine that worked on this request was lost. Send it again.",
        kind="server_error",
        code="engine_unavailable",
    )


def engine_busy() -> ApiError:
    """503: the engine answers, but takes nothing now."""
    return ApiError(
        503,
        "The engine takes no requests at the moment. Try again later.",
        kind="server_error",
        code="unavailable",
    )


def shorten(text: str) -> str:
    """At most 64 characters of a client's text, for use in a message."""
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."
