# SPDX-License-Identifier: Apache-2.0
"""Messages between the engine and one other rank, over a stream socket that the kernel closes when
either ends.

Owns the framing: kind (1 byte), length (4 bytes, little-endian), payload. Must not know what a
message means.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from enum import Enum
from typing import Any

_HEAD = struct.Struct("<cI")


class Kind(Enum):
    """What a message is. The first ones come from a rank, the others go to it."""

    GREETING = b"G"  # JSON {token, rank, pid}: a rank on another host wants to be let in
    HELLO = b"H"  # it runs and has loaded torch
    LEAST = b"N"  # a number in digits; back comes the least of all ranks'
    LOADED = b"L"  # it waits for steps
    FAILED = b"F"  # JSON {line, code}: it ends, and why
    JOIN = b"J"  # JSON {host, port}: where the ranks meet
    STEP = b"S"  # the inputs of a step, see `InputBatch.pack`
    RELEASE = b"R"  # the KV cache's memory is given back
    RESTORE = b"T"  # and taken again


_MOST = (1 << 32) - 1
_KINDS = frozenset(kind.value for kind in Kind)


class Closed(Exception):
    """The other end is gone, or is none of ours."""


class Channel:
    """One end."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, kind: Kind, payload: bytes = b"") -> None:
        """Raises `Closed`."""
        try:
            self._socket.sendall(_HEAD.pack(kind.value, len(payload)) + payload)
        except OSError:
            raise Closed from None

    def send_json(self, kind: Kind, value: Any) -> None:
        self.send(kind, json.dumps(value).encode())

    def receive(self, most: int = _MOST) -> tuple[Kind, bytes]:
        """Wait for a message of at most `most` bytes. Raises `Closed`."""
        kind, length = _HEAD.unpack(self._read(_HEAD.size))
        if length > most or kind not in _KINDS:
            raise Closed
        return Kind(kind), bytes(self._read(length))

    def expect(self, kind: Kind, most: int = _MOST) -> bytes:
        """The payload of the next message, which has this kind. Raises `Closed`."""
        found, payload = self.receive(most)
        if found is not kind:
            raise Closed
        return payload

    def close(self) -> None:
        """Both ends read the end; the descriptor stays until this object is gone."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _read(self, length: int) -> bytearray:
        buffer = bytearray(length)
        view = memoryview(buffer)
        while view:
            try:
                count = self._socket.recv_into(view)
            except OSError:
                count = 0
            if not count:
                raise Closed
            view = view[count:]
        return buffer
