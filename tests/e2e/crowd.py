# SPDX-License-Identifier: Apache-2.0
"""Many streamed completions at once, read by one thread with plain sockets; each is checked byte by
byte at its end.
"""

from __future__ import annotations

import json
import selectors
import socket
import threading
from collections.abc import Iterable
from typing import Any

from tests.e2e.doubles import answer
from tests.e2e.server import PATIENCE_S, wait_for

READ_SIZE = 1 << 16


def http_request(
    body: dict[str, Any], headers: dict[str, str] | None = None, keep_alive: bool = False
) -> bytes:
    """A POST to /v1/completions, whose answer ends with the connection unless that is kept."""
    payload = json.dumps(body).encode()
    lines = [
        "POST /v1/completions HTTP/1.1",
        "Host: localhost",
        f"Connection: {'keep-alive' if keep_alive else 'close'}",
        "Content-Type: application/json",
        f"Content-Length: {len(payload)}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + payload


class Stream:
    """One request and what has come of its answer."""

    def __init__(
        self, port: int, prompt: list[int], headers: dict[str, str], **fields: Any
    ) -> None:
        self.prompt = prompt
        self.received = bytearray()
        self.ended = False
        self.started = False  # an event has come
        body = {"prompt": prompt, "max_tokens": 900_000, "stream": True, "ignore_eos": True}
        body |= {"stream_options": {"include_usage": True}, **fields}
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.sock.sendall(http_request(body, headers))
        self.sock.setblocking(False)

    @property
    def status(self) -> int:
        return int(self.received.split(b" ", 2)[1])

    def read(self) -> None:
        try:
            data = self.sock.recv(READ_SIZE)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        self.received += data
        self.started = self.started or b"data: " in self.received
        self.ended = not data

    def body(self) -> bytes:
        """The body without its transfer coding."""
        head, _, rest = bytes(self.received).partition(b"\r\n\r\n")
        if b"chunked" not in head.lower():
            return rest
        parts = []
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            length = int(size, 16)
            parts.append(rest[:length])
            rest = rest[length + 2 :]
        return b"".join(parts)

    def events(self) -> list[str]:
        """The data of every event."""
        lines = self.body().decode().split("\n\n")
        return [line.removeprefix("data: ") for line in lines if line]

    def error(self) -> dict[str, Any]:
        """The error that ended the stream, or that was the whole answer."""
        if self.status != 200:
            return dict(json.loads(self.body())["error"])
        chunks = [json.loads(event) for event in self.events() if event != "[DONE]"]
        return dict(chunks[-1]["error"])

    def check(self) -> int:
        """That it is whole and its own, byte by byte; how many tokens it has."""
        assert self.status == 200, self.received
        *events, last = self.events()
        assert last == "[DONE]", last
        chunks = [json.loads(event) for event in events]
        assert not any("error" in chunk for chunk in chunks), chunks[-1]
        length = int(chunks[-1]["usage"]["completion_tokens"])
        choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
        assert "".join(choice["text"] for choice in choices) == answer(self.prompt, length)
        reasons = [choice["finish_reason"] for choice in choices]
        assert reasons[-1] in ("stop", "length"), reasons[-1]
        assert set(reasons[:-1]) <= {None}
        return length


class Crowd:
    """Streams that run until their engine is told to finish them."""

    def __init__(self, port: int, count: int, rank: int | None = None, **fields: Any) -> None:
        headers = {} if rank is None else {"X-data-parallel-rank": str(rank)}
        self._selector = selectors.DefaultSelector()
        self._stop = threading.Event()
        self.streams: list[Stream] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        for at in range(count):
            stream = Stream(port, [at % 250], headers, **fields)
            self.streams.append(stream)
            self._selector.register(stream.sock, selectors.EVENT_READ, stream)

    def _read(self) -> None:
        while not self._stop.is_set():
            for key, _ in self._selector.select(timeout=0.05):
                stream: Stream = key.data
                stream.read()
                if stream.ended:
                    self._selector.unregister(stream.sock)
                    stream.sock.close()

    def wait_started(self) -> Crowd:
        wait_for(lambda: all(s.started or s.ended for s in self.streams), "the first events")
        return self

    @property
    def running(self) -> int:
        return sum(not stream.ended for stream in self.streams)

    def wait_ended(self) -> None:
        wait_for(lambda: not self.running, f"the end of {self.running} streams")

    def check(self) -> int:
        """Waits for the end and checks every stream; tokens of all."""
        self.wait_ended()
        return sum(stream.check() for stream in self.streams)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        for stream in self.streams:
            stream.sock.close()
        self._selector.close()

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def one(port: int, rank: int, prompt: Iterable[int] = (3,), **fields: Any) -> Crowd:
    """A crowd of one."""
    crowd = Crowd(port, 0)
    stream = Stream(port, list(prompt), {"X-data-parallel-rank": str(rank)}, **fields)
    crowd.streams.append(stream)
    crowd._selector.register(stream.sock, selectors.EVENT_READ, stream)
    return crowd
