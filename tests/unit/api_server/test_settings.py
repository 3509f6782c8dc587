# SPDX-License-Identifier: Apache-2.0
"""Settings that the reference frontend does not serve are refused by name."""

from __future__ import annotations

import json

import pytest

from vllm.api_server.__main__ import main
from vllm.config.serve import RUST_ONLY
from vllm.errors import ExitCode
from vllm.logging import flush

SOCKETS = ["--listen-fd", "9", "--input-listener-fd", "9", "--output-listener-fd", "9"]


@pytest.mark.parametrize("name", RUST_ONLY)
def test_what_only_the_rust_frontend_serves_is_refused_by_its_flag(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*SOCKETS, "--args-json", json.dumps({"model": "none", name: 1})]
    assert main(arguments) == ExitCode.USAGE
    flush()
    assert f"--{name.replace('_', '-')}" in capsys.readouterr().err
