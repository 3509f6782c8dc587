# SPDX-License-Identifier: Apache-2.0
"""What can go wrong at the boundary between frontend and engine.

Free of dependencies, so that any room can raise or catch these without loading a codec. What an
engine refuses is ``vllm.errors.RequestError``, a parameter outside its limit
``vllm.errors.ValidationError``; this module has what concerns the messages themselves.
"""

from __future__ import annotations

VALIDATION_ERROR = "validation_error"
"""Error code of a request that could not be read or breaks a limit; the client's fault."""
SHUTTING_DOWN = "shutting_down"
"""Error code of a request that the end of its engine cut short, or that came too late for it."""
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


class EngineDeadError(ProtocolError):
    """The engine ended or broke off; its requests are lost."""


class UtilityError(ProtocolError):
    """A utility call that the engine answered with a failure."""
