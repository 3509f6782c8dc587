# SPDX-License-Identifier: Apache-2.0
"""The one question of the supervisor, over plain HTTP and over TLS."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from vllm.cli.health import HealthCheck

OK = b"HTTP/1.1 200 OK\r\n\r\n"
ALERT = b"\x15\x03\x03\x00\x02\x02\x32"


def answering(answer: bytes) -> tuple[Callable[[], socket.socket], socket.socket]:
    """Connects to a peer that has answered already."""
    near, far = socket.socketpair()
    far.sendall(answer)
    near.setblocking(False)
    return lambda: near, far


@pytest.mark.parametrize(
    ("answer", "tls", "passes"),
    [
        (OK, False, True),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", False, False),
        (ALERT, False, False),
        (ALERT, True, True),
        (OK, True, False),
    ],
)
def test_only_the_answer_of_a_frontend_that_serves_passes(
    answer: bytes, tls: bool, passes: bool
) -> None:
    connect, far = answering(answer)
    with far:
        assert HealthCheck(connect, tls=tls).passed(0.01) is passes
