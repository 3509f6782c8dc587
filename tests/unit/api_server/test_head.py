# SPDX-License-Identifier: Apache-2.0
"""What is refused for its head alone."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from vllm.api_server import head
from vllm.api_server.errors import ApiError


def request(*headers: tuple[str, str], method: str = "POST", version: str = "1.1") -> Request:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    scope = {"type": "http", "method": method, "http_version": version, "headers": raw}
    return Request(scope)


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json ;v=1"]
)
def test_json_is_read_by_whatever_name_it_goes(kind: str) -> None:
    head.check_body(request(("Content-Type", kind), ("Content-Encoding", "Identity")))
    head.check_body(request())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Content-Type", "text/plain"),
        ("Content-Type", "text/plain; a=application/json"),
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Content-Encoding", "gzip"),
    ],
)
def test_another_kind_of_body_is_named(name: str, value: str) -> None:
    with pytest.raises(ApiError) as caught:
        head.check_body(request((name, value)))
    assert (caught.value.status, caught.value.param) == (415, name)
    assert value in caught.value.message


HOST = ("Host", "localhost:8000")


@pytest.mark.parametrize(
    "headers",
    [
        [HOST, ("Origin", "https://evil.example")],
        [HOST, ("Origin", "null")],
        [HOST, ("Sec-Fetch-Site", "cross-site")],
        [HOST, ("Sec-Fetch-Site", "same-site"), ("Origin", "http://localhost:8000")],
    ],
)
def test_pages_of_other_origins_change_nothing(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(ApiError) as caught:
        head.check_sender(request(*headers))
    assert (caught.value.status, caught.value.code) == (403, "origin_not_allowed")
    head.check_sender(request(*headers, method="GET"))


@pytest.mark.parametrize(
    "headers",
    [
        [HOST],
        [HOST, ("Origin", "http://localhost:8000")],
        [HOST, ("Sec-Fetch-Site", "same-origin"), ("Origin", "https://proxy.example")],
        [HOST, ("Sec-Fetch-Site", "none")],
    ],
)
def test_own_pages_and_programs_are_let_in(headers: list[tuple[str, str]]) -> None:
    head.check_sender(request(*headers))


@pytest.mark.parametrize("hosts", [[], ["a", "b"], ["a", "a"], ["a b"]])
def test_one_host_is_named(hosts: list[str]) -> None:
    with pytest.raises(ApiError) as caught:
        head.check_host(request(*(("Host", host) for host in hosts)))
    assert caught.value.param == "Host"


@pytest.mark.parametrize("host", ["", "a", "localhost:8000", "[::1]:8000"])
def test_hosts_have_many_forms(host: str) -> None:
    head.check_host(request(("Host", host)))
    head.check_host(request(version="1.0"))
