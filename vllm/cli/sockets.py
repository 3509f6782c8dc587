# SPDX-License-Identifier: Apache-2.0
"""The listening sockets of a start: HTTP, and those that engines connect to.

Engine sockets on this host are Unix sockets without a name: the file is made in a private folder,
opened as a path descriptor and removed again before any process is started. Engines inherit the
descriptor and connect to `/proc/self/fd/N`. So nothing is left behind whoever dies when, and nobody
else on the host can connect. Must not know messages or processes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import tempfile
from dataclasses import dataclass

from vllm import envs
from vllm.config.serve import HTTPConfig, ParallelConfig
from vllm.errors import AddressError
from vllm.protocol.listeners import Listener, listen_ipc, listen_tcp

_BACKLOG = 2048


@dataclass
class HTTPSocket:
    """The listening socket that the frontend will adopt."""

    sock: socket.socket
    config: HTTPConfig
    file: tuple[int, int] | None = None  # device and inode of a Unix socket's file

    @property
    def url(self) -> str:
        """Where a client on this host reaches it."""
        if self.config.uds is not None:
            return f"unix:{self.config.uds}"
        host, port = self.sock.getsockname()[:2]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        scheme = "https" if self.config.tls else "http"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    def connect(self) -> socket.socket:
        """A client's connection to it; does not block."""
        client = socket.socket(self.sock.family, socket.SOCK_STREAM)
        client.setblocking(False)
        address = self.sock.getsockname()
        if self.sock.family != socket.AF_UNIX:
            host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address[0], address[0])
            address = (host, address[1])
        with contextlib.suppress(BlockingIOError):
            client.connect(address)
        return client

    def remove_file(self) -> None:
        """Remove the file of a Unix socket, unless somebody replaced it."""
        if self.config.uds is not None:
            with contextlib.suppress(OSError):
                if _identity(self.config.uds) == self.file:
                    os.unlink(self.config.uds)


def _identity(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def open_http(config: HTTPConfig) -> HTTPSocket:
    """Open the HTTP socket. Raises AddressError that names the address and what to do."""
    if config.uds is not None:
        return HTTPSocket(_listen_uds(config.uds), config, _identity(config.uds))
    return HTTPSocket(_listen_http(config.host, config.port), config)


def _listen_http(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise AddressError(f"cannot listen on host {host!r}: {error.strerror}") from None
    family, *_, address = found[0]
    try:
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        raise AddressError(f"cannot listen on {host} port {port}: {_why(error)}") from None


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use; stop what uses it or choose another with --port"
    if error.errno == errno.EACCES:
        return "not permitted; ports below 1024 are reserved, choose another with --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address; choose another with --host"
    return error.strerror or str(error)


def _listen_uds(path: str) -> socket.socket:
    """Listen on a Unix socket; a file left by a server that is gone is replaced."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_abandoned(path):
            os.unlink(path)
        sock.bind(path)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        in_use = error.errno == errno.EADDRINUSE
        why = "a server listens there, or it is another file" if in_use else error.strerror
        raise AddressError(f"cannot listen on {path}: {why or error}") from None
    return sock


def _is_abandoned(path: str) -> bool:
    """Whether `path` is a Unix socket that nobody listens on."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
    except OSError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
    return False


@dataclass
class EngineSocket:
    """A listener for engines. `address` is what they connect to; `passed` they must inherit."""

    listener: Listener
    address: str
    passed: tuple[int, ...] = ()

    def close(self) -> None:
        self.listener.sock.close()
        for descriptor in self.passed:
            os.close(descriptor)


@dataclass
class EngineSockets:
    """Handshake, input and output."""

    handshake: EngineSocket
    input: EngineSocket
    output: EngineSocket

    @property
    def all(self) -> tuple[EngineSocket, ...]:
        return self.handshake, self.input, self.output

    @property
    def passed(self) -> tuple[int, ...]:
        """Descriptors that an engine on this host must inherit."""
        return tuple(descriptor for each in self.all for descriptor in each.passed)

    def leave_to_frontend(self) -> None:
        """The ports that a frontend has adopted close with it; engines can still be started."""
        self.input.listener.sock.close()
        self.output.listener.sock.close()

    def close(self) -> None:
        for each in self.all:
            each.close()


def open_engine_sockets(parallel: ParallelConfig) -> EngineSockets:
    """Nameless Unix sockets when all engines are here, else TCP. Raises AddressError."""
    if parallel.has_remote_engines:
        listeners = [listen_tcp(parallel.address, port) for port in (parallel.rpc_port, 0, 0)]
        return EngineSockets(*(EngineSocket(each, each.address) for each in listeners))
    try:
        with tempfile.TemporaryDirectory(prefix="vllm-", dir=envs.VLLM_RPC_BASE_PATH) as folder:
            return EngineSockets(*(_nameless(folder) for _ in range(3)))
    except OSError as error:
        raise AddressError(f"cannot make a folder for sockets: {error}") from None


def _nameless(folder: str) -> EngineSocket:
    """Listen below `folder` and forget the name; the folder's descriptor keeps the path short."""
    inside = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener = listen_ipc(f"/proc/self/fd/{inside}", prefix="")
        assert listener.path is not None
        descriptor = os.open(listener.path, os.O_PATH | os.O_CLOEXEC)
        os.unlink(listener.path)
    finally:
        os.close(inside)
    return EngineSocket(listener, f"ipc:///proc/self/fd/{descriptor}", (descriptor,))
