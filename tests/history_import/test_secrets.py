# SPDX-License-Identifier: Apache-2.0
"""A credential in the source's URL would be published with the join; it is refused unprinted."""

from __future__ import annotations

import pytest

from tools.history_import.errors import Refused

from .test_config import SMALL, parse


@pytest.mark.parametrize(
    "url",
    [
        "https://mona:hunter2@example.org/lib",
        "https://hunter2@example.org/lib",
        "ssh://mona:hunter2@example.org/lib",
        "HTTPS://:hunter2@example.org",
    ],
)
def test_credentials_are_refused_without_being_shown(url: str) -> None:
    with pytest.raises(Refused, match=r"lib\.toml: source\.url has credentials") as refused:
        parse(SMALL.replace("/somewhere/lib", url))
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    ["ssh://git@example.org/lib", "git@example.org:a/lib", "https://example.org/a@b:c/lib"],
)
def test_a_user_s_name_or_an_at_in_a_path_is_none(url: str) -> None:
    assert parse(SMALL.replace("/somewhere/lib", url)).source.url == url
