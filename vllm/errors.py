# SPDX-License-Identifier: Apache-2.0
"""The errors that cross a room's border, and the exit code of each that ends a process.

Owns the classes and the table of exit codes; must not know who raises or prints them. A message
says what failed, on which value, the limit and what to do; it ends up as one line in front of a
user, so it holds no Python type names and no traces.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of `vllm serve` and of the processes below it. A second signal gives 128 + its
    number.
    """

    OK = 0  # stopped because somebody asked for it (SIGINT or SIGTERM)
    INTERNAL = 1  # a bug: the trace is in the log
    USAGE = 2  # a flag or environment variable
    MODEL = 3  # the model is missing, incomplete, damaged or not supported
    ADDRESS = 4  # a socket could not be opened (port in use)
    FRONTEND_BINARY = 5  # the Rust frontend asked for is missing or of another version
    ENGINE_START = 6  # the engine could not start (out of memory, missing kernels, ...)
    FRONTEND_START = 7  # the frontend could not start
    ENGINE_DIED = 8  # an engine ended while serving, more often than it is started again
    FRONTEND_DIED = 9  # the frontend ended while serving


class VLLMError(Exception):
    """An error that is told to the user in one line and ends the process with `exit_code`."""

    exit_code: ExitCode = ExitCode.INTERNAL


class UsageError(VLLMError):
    """A flag or environment variable that cannot be used; names it, its value and what is
    accepted.
    """

    exit_code = ExitCode.USAGE


class ModelError(VLLMError):
    """The model cannot be used: missing files, damaged or foreign content, nothing there when
    offline.
    """

    exit_code = ExitCode.MODEL


class AddressError(VLLMError):
    """A listening socket could not be opened."""

    exit_code = ExitCode.ADDRESS


class FrontendBinaryError(VLLMError):
    """The Rust frontend that was asked for cannot be used."""

    exit_code = ExitCode.FRONTEND_BINARY


class EngineStartError(VLLMError):
    """The engine could not start."""

    exit_code = ExitCode.ENGINE_START


class FrontendStartError(VLLMError):
    """The frontend could not start."""

    exit_code = ExitCode.FRONTEND_START


class EngineDiedError(VLLMError):
    """An engine ended, or its connection did, while it was needed."""

    exit_code = ExitCode.ENGINE_DIED


class FrontendDiedError(VLLMError):
    """The frontend ended while it was serving."""

    exit_code = ExitCode.FRONTEND_DIED


class ValidationError(ValueError):
    """A request field outside its limit. `field` is its path, as in `logit_bias` or `stop[1]`."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class RequestError(Exception):
    """A request the engine refuses or fails; travels as the `error` map of the wire.

    `code` is machine-readable (`validation_error` becomes HTTP 400), `retryable` turns into 503.
    """

    def __init__(self, code: str, message: str, retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retryable = retryable


class NotSupported(RequestError):
    """Something known and not built; names itself."""

    def __init__(self, what: str) -> None:
        super().__init__("not_supported", f"{what} is not supported")
