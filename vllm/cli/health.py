# SPDX-License-Identifier: Apache-2.0
"""One HTTP request, `GET /health`, asked again until the answer is 200.

Small on purpose: the supervisor must not carry an HTTP library.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable

_REQUEST = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_ALERT = b"\x15\x03"  # record of type alert, of any version since TLS 1.0
_ANSWER_S = 2.0  # a frontend that has accepted and says nothing is asked again


class HealthCheck:
    """Asks over connections from `connect`, which must not block."""

    def __init__(self, connect: Callable[[], socket.socket], *, tls: bool = False) -> None:
        self._connect = connect
        # Over TLS the question is no handshake and is refused by an alert. It says as much: the
        # frontend accepts only once its engines are ready, and it may ask for a certificate that
        # the supervisor does not have.
        self._passing = (_ALERT,) if tls else (b"HTTP/1.1 200", b"HTTP/1.0 200")
        self._client: socket.socket | None = None
        self._asked = 0.0

    def passed(self, seconds: float) -> bool:
        """Whether 200 was answered by now; takes at most about `seconds`."""
        deadline = time.monotonic() + seconds
        try:
            if self._client is None:
                self._ask(seconds)
            answer = self._answer(deadline - time.monotonic())
        except OSError:
            answer = b""
        if answer is None:
            return False
        self.close()
        if answer.startswith(self._passing):
            return True
        time.sleep(max(0.0, min(deadline - time.monotonic(), seconds)))
        return False

    def _ask(self, seconds: float) -> None:
        self._client = self._connect()
        self._asked = time.monotonic()
        select.select([], [self._client], [], seconds)
        self._client.send(_REQUEST)

    def _answer(self, seconds: float) -> bytes | None:
        """The first bytes of the answer; None: not there yet; empty: there will be none."""
        assert self._client is not None
        readable, _, _ = select.select([self._client], [], [], max(seconds, 0.0))
        if readable:
            return self._client.recv(64)
        return b"" if time.monotonic() - self._asked > _ANSWER_S else None

    def close(self) -> None:
        if self._client is not None:
            with contextlib.suppress(OSError):
                self._client.close()
            self._client = None
