# SPDX-License-Identifier: Apache-2.0
"""What the head of a request must be before anything of it is served.

One host, a sender that is no stranger's web page, a body of a kind that is read.
"""

from __future__ import annotations

import re

from starlette.requests import Request

from vllm.api_server.errors import ApiError, bad_field, shorten

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(:[0-9]*)?")
_SAFE = ("GET", "HEAD", "OPTIONS")


def check_host(request: Request) -> None:
    """HTTP/1.1 wants one host, and who sends two may be seen differently by a proxy."""
    hosts = request.headers.getlist("host")
    if len(hosts) > 1:
        problem = "is there more than once"
    elif hosts and not _HOST.fullmatch(hosts[0]):
        problem = "is no host"
    elif not hosts and request.scope["http_version"] == "1.1":
        problem = "is missing"
    else:
        return
    raise bad_field("Host", f"The header Host {problem}: send one, as `Host: localhost:8000`.")


def check_sender(request: Request) -> None:
    """A browser sends a page's requests wherever the page likes; what they change is done before
    the page is told that it may not read the answer. Who is no browser says nothing of pages.
    """
    if request.method in _SAFE or not _is_from_elsewhere(request):
        return
    page = shorten(request.headers.get("origin", "another page"))
    raise ApiError(
        403,
        f"A web page of another origin ({page}) sent this request. Name its origin with "
        "--allowed-origins, or start the server with an API key.",
        code="origin_not_allowed",
    )


def _is_from_elsewhere(request: Request) -> bool:
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = request.headers.get("origin")
    if origin is None:
        return False
    _, separator, host = origin.partition("://")
    return not separator or host != request.headers.get("host")


def check_body(request: Request) -> None:
    """A body is JSON as it is. None of its kind may be told; a browser always tells one that a page
    chose.
    """
    for kind in request.headers.getlist("content-type"):
        if not _is_json(kind):
            raise _unsupported("Content-Type", kind, "send `Content-Type: application/json`")
    for coding in request.headers.getlist("content-encoding"):
        if coding.lower() != "identity":
            raise _unsupported("Content-Encoding", coding, "send the body as it is")


def _is_json(kind: str) -> bool:
    name = kind.partition(";")[0].strip().lower()
    return name == "application/json" or (
        name.startswith("application/") and name.endswith("+json")
    )


def _unsupported(header: str, value: str, remedy: str) -> ApiError:
    return ApiError(
        415,
        f"A body with `{header}: {shorten(value)}` is not read: {remedy}.",
        param=header,
        code="unsupported_media_type",
    )
