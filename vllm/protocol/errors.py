# SPDX-License-Identifier: Apache-2.0
"""What can go wrong at the boundary between frontend and engine.

Free of dependencies, so that any room can raise or catch these without loading a codec.
"""

from __future__ import annotations

from typing import Any

VALIDATION_ERROR = "validation_error"
"""Error code of a request that could not be read or breaks a limit; the client's fault."""
INTERNAL_ERROR = "internal_error"
"""Error code of a request that failed in the engine; not the client's fault."""


class ProtocolError(Exception):
    """Anything a peer can do wrong; the base of this module's errors."""


class DecodeError(ProtocolError):
    """Bytes that are no message of the expected kind.

    The text names the place and what was expected there, never the peer's data, so that it may be
    shown to a client.
    """


class EncodeError(ProtocolError):
    """A value that has no form on the wire."""


class HandshakeError(ProtocolError):
    """The start-up exchange failed or took too long."""


class ValidationError(ValueError):
    """A parameter outside of what the engine accepts.

    ``field``, ``value`` and ``limit`` say which one, what it was and what it may be.
    """

    def __init__(self, field: str, value: Any, limit: str) -> None:
        self.field, self.value, self.limit = field, value, limit
        super().__init__(f"{field} must be {limit}, got {_short(value)}")


class RequestError(Exception):
    """A request that the engine refuses or gives up; answered to its client alone.

    ``code`` is one of the wire's error codes; ``retryable`` says that the same request may succeed
    later.
    """

    def __init__(self, message: str, code: str = VALIDATION_ERROR, retryable: bool = False) -> None:
        self.code, self.message, self.retryable = code, message, retryable
        super().__init__(message)


class EngineDeadError(ProtocolError):
    """The engine ended or broke off; its requests are lost."""


class UtilityError(ProtocolError):
    """A utility call that the engine answered with a failure."""


def _short(value: Any, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
