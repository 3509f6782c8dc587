# SPDX-License-Identifier: Apache-2.0
"""Child processes: started so that they never outlive their parent, stopped so that none is left.

A child's configuration is an inherited descriptor, never its arguments. Each child is told by the
kernel to die when its parent does (PR_SET_PDEATHSIG), whatever the parent died of, unless it
watches the parent itself, and has a process group of its own, so that Ctrl-C reaches the parent
alone. Must not know what a child does.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from vllm.errors import ExitCode, VLLMError
from vllm.logging import init_logger

logger = init_logger(__name__)

SECRETS = frozenset({"VLLM_API_KEY"})
"""Variables that no child inherits: the frontend's configuration carries them."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None, use_errno=True)
# Codes that a child ends with after it has told its own cause in one line.
_TOLD = frozenset(ExitCode) - {ExitCode.OK, ExitCode.INTERNAL}
_USUAL_CAUSES = {"SIGKILL": "out of memory", "SIGBUS": "a model file that was cut short in use"}


class Supervised(Protocol):
    """What a supervisor needs of a process; `pidfd` becomes readable when it ends."""

    name: str
    pidfd: int

    @property
    def ended(self) -> bool: ...
    @property
    def told_code(self) -> ExitCode | None: ...
    def describe_end(self) -> str: ...
    def signal(self, number: signal.Signals) -> None: ...
    def wait(self, seconds: float | None = None) -> bool: ...
    def close(self) -> None: ...


class Child:
    """A running child. `pidfd` becomes readable when it ends."""

    def __init__(self, name: str, process: subprocess.Popen[bytes]) -> None:
        self.name = name
        self.process = process
        self.pidfd = os.pidfd_open(process.pid)

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def describe_end(self) -> str:
        """How it ended, in words."""
        code = self.process.returncode
        if code is None:
            return f"{self.name} (pid {self.process.pid}) runs"
        if code >= 0:
            return f"{self.name} (pid {self.process.pid}) ended with exit code {code}"
        name = signal_name(-code)
        cause = _USUAL_CAUSES.get(name)
        why = f": {cause} is the usual cause" if cause else ""
        return f"{self.name} (pid {self.process.pid}) was ended by {name}{why}"

    @property
    def told_code(self) -> ExitCode | None:
        """Its exit code, where the child has already told the cause."""
        return told_code(self.process.returncode)

    def signal(self, number: signal.Signals) -> None:
        if not self.ended:
            self.process.send_signal(number)

    def close(self) -> None:
        """Forget a child that has ended."""
        os.close(self.pidfd)

    def wait(self, seconds: float | None = None) -> bool:
        """Whether it has ended within `seconds`; None: wait until it has."""
        try:
            self.process.wait(None if seconds is None else max(seconds, 0.0))
        except subprocess.TimeoutExpired:
            return False
        return True


def told_code(code: int | None) -> ExitCode | None:
    """An exit code as one that says that the cause was told, if it does."""
    return ExitCode(code) if code in _TOLD else None


def signal_name(number: int) -> str:
    """`SIGTERM` and the like; real-time signals but the first and last have no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def start(
    name: str,
    command: Sequence[str],
    arguments: Mapping[str, Any],
    passed: Sequence[int] = (),
    failure: type[VLLMError] = VLLMError,
    *,
    tied: bool = True,
) -> Child:
    """Start `command --args-fd N`, where descriptor N holds `arguments` as JSON.

    A `tied` child is killed when the thread that starts it ends. Raises `failure` where the system
    has no process, memory or descriptor left for it.
    """
    try:
        return _start(name, command, arguments, passed, tied)
    except OSError as error:
        raise failure(
            f"{name} ({command[0]}) could not be started: {error.strerror}; see `ulimit -a`"
        ) from None


def _start(
    name: str,
    command: Sequence[str],
    arguments: Mapping[str, Any],
    passed: Sequence[int],
    tied: bool,
) -> Child:
    descriptor = _arguments_descriptor(arguments)
    parent = os.getpid()
    try:
        process = subprocess.Popen(
            [*command, "--args-fd", str(descriptor)],
            stdin=subprocess.DEVNULL,
            pass_fds=(descriptor, *passed),
            process_group=0,
            env={name: text for name, text in os.environ.items() if name not in SECRETS},
            preexec_fn=(lambda: _die_with(parent)) if tied else None,  # noqa: PLW1509
        )
    finally:
        os.close(descriptor)
    return Child(name, process)


def _arguments_descriptor(arguments: Mapping[str, Any]) -> int:
    """An anonymous file: readable to its end without anybody writing, and gone with its readers."""
    descriptor = os.memfd_create("vllm-args")
    os.write(descriptor, json.dumps(arguments).encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _die_with(parent: int) -> None:
    """In the child, before exec: be killed when the parent ends, even if that was just now.

    The log's thread does not exist in the child; it holds no lock that these calls need.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def stop(children: Sequence[Supervised], seconds: float) -> None:
    """SIGTERM, `seconds` for all of them together, then SIGKILL; every child is gone afterwards."""
    deadline = time.monotonic() + seconds
    for child in children:
        child.signal(signal.SIGTERM)
    for child in children:
        if not child.wait(deadline - time.monotonic()):
            logger.warning(
                "%s did not end within %g s of SIGTERM and is killed", child.name, seconds
            )
            child.signal(signal.SIGKILL)
            child.wait()


def kill(children: Sequence[Supervised]) -> None:
    """SIGKILL to all; every child is gone afterwards."""
    for child in children:
        child.signal(signal.SIGKILL)
    for child in children:
        child.wait()
