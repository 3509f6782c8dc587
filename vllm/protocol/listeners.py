# SPDX-License-Identifier: Apache-2.0
"""Listening sockets that exist before anyone answers on them, and are handed between processes.

A launcher opens them, tells engines their addresses, and gives the descriptors to a frontend, so
that an address can neither be stolen nor raced for. Must not know ZeroMQ messages.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import uuid
from types import TracebackType

import zmq

from vllm.errors import AddressError

UNIX_PATH_LIMIT = 107
"""Bytes that ``sockaddr_un`` holds on Linux, without the terminating zero."""


class Listener:
    """A bound, listening stream socket and the ZeroMQ address that reaches it.

    Closing it removes its socket file; whoever adopted a duplicate of the descriptor keeps serving.
    """

    def __init__(self, sock: socket.socket, address: str, path: str | None = None) -> None:
        self.sock, self.address, self.path = sock, address, path

    def fileno(self) -> int:
        return self.sock.fileno()

    def bind(self, peer: zmq.Socket) -> None:
        """Let a ZeroMQ socket accept on a duplicate of this descriptor."""
        peer.setsockopt(zmq.USE_FD, os.dup(self.fileno()))
        peer.bind(self.address)

    def close(self) -> None:
        self.sock.close()
        if self.path is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def listen_ipc(directory: str | None = None, prefix: str = "vllm-") -> Listener:
    """Listen on a fresh Unix socket in ``directory`` (default: the folder for temporary files).

    Raises:
        AddressError: the path is too long for a Unix socket, or cannot be bound.
    """
    path = os.path.join(directory or tempfile.gettempdir(), f"{prefix}{uuid.uuid4().hex}")
    if len(os.fsencode(path)) > UNIX_PATH_LIMIT:
        raise AddressError(
            f"socket path {path} has {len(os.fsencode(path))} bytes, the system takes "
            f"{UNIX_PATH_LIMIT}: choose a shorter folder with VLLM_RPC_BASE_PATH"
        )
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        os.chmod(path, 0o600)
        sock.listen(socket.SOMAXCONN)
    except OSError as error:
        sock.close()
        raise AddressError(f"cannot listen on {path}: {error.strerror}") from error
    return Listener(sock, f"ipc://{path}", path)


def listen_tcp(host: str = "127.0.0.1", port: int = 0) -> Listener:
    """Listen on a TCP port of ``host``; port 0 takes a free one.

    Raises:
        AddressError: the address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        sock = socket.create_server((host, port), family=family, backlog=socket.SOMAXCONN)
    except OSError as error:
        raise AddressError(f"cannot listen on {host} port {port}: {error.strerror}") from error
    shown = f"[{host}]" if family == socket.AF_INET6 else host
    return Listener(sock, f"tcp://{shown}:{sock.getsockname()[1]}")
