# SPDX-License-Identifier: Apache-2.0
"""Completions of a server under test: one at once, or a long stream read in the background."""

from __future__ import annotations

import contextlib
import threading

import httpx

from tests.e2e.server import Server, wait_for

LONG = {"prompt": "x", "max_tokens": 60_000, "ignore_eos": True, "stream": True}


def complete(server: Server, **fields: object) -> httpx.Response:
    body = {"prompt": "Hello", "max_tokens": 4, **fields}
    return httpx.post(f"{server.url}/v1/completions", json=body, timeout=60)


def health(server: Server, path: str = "/health") -> int:
    return httpx.get(f"{server.url}{path}", timeout=30).status_code


class Reader(threading.Thread):
    """Reads a long stream in the background; `lines` grows."""

    def __init__(self, server: Server, rank: int | None = None, **fields: object) -> None:
        super().__init__(daemon=True)
        self._headers = {} if rank is None else {"X-data-parallel-rank": str(rank)}
        self.lines: list[str] = []
        self._url, self._body = f"{server.url}/v1/completions", {**LONG, **fields}
        self.start()
        wait_for(lambda: self.lines, "the first event")

    def run(self) -> None:
        with (
            contextlib.suppress(httpx.HTTPError),
            httpx.stream(
                "POST", self._url, json=self._body, headers=self._headers, timeout=60
            ) as answer,
        ):
            for line in answer.iter_lines():
                if line:
                    self.lines.append(line)
