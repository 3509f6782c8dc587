# SPDX-License-Identifier: Apache-2.0
"""What runs on a node of a Ray cluster: an actor that starts one process and waits for its end.

The process is the same as without Ray; the actor dies with its node, and the process with the
actor. Must not know what the process does. Importing this module needs no Ray.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vllm import children


@dataclass(frozen=True)
class End:
    """How a process ended: in words that name it, and its exit code (a signal's number below 0)."""

    words: str
    code: int


class Launcher:
    """One process on this node, `environ` added to its environment.

    `run` blocks until the process has ended; the other methods may be called meanwhile.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        os.environ.update(environ)
        self._child: children.Child | None = None
        self._listener: socket.socket | None = None

    def address(self) -> str:
        """This node's, as the others reach it."""
        import ray  # noqa: PLC0415 - an extra, here for certain

        return str(ray.util.get_node_ip_address())

    def listen(self, host: str) -> int:
        """Open a socket that the process will inherit; the port other ranks connect to."""
        self._listener = socket.create_server((host, 0))
        return int(self._listener.getsockname()[1])

    def run(self, name: str, module: str, arguments: dict[str, Any]) -> End:
        """`python -m module` with `arguments` as its JSON. A key `ranks` gets the descriptor of
        the socket that was opened.
        """
        passed: tuple[int, ...] = ()
        if self._listener is not None:
            passed = (self._listener.fileno(),)
            arguments["ranks"]["listener_fd"] = passed[0]
        name = f"{name} on {socket.gethostname()}"
        child = children.start(name, [sys.executable, "-m", module], arguments, passed)
        self._child = child
        if self._listener is not None:
            self._listener.close()
        code = child.process.wait()
        return End(child.describe_end(), code)

    def signal(self, number: int) -> None:
        if self._child is not None:
            self._child.signal(signal.Signals(number))
