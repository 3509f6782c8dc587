# SPDX-License-Identifier: Apache-2.0
"""The command line: the table of flags, refusals by name, suggestions."""

from __future__ import annotations

import subprocess
import sys

import pytest

from vllm.cli.parser import parse
from vllm.config.flags import REFUSED, SERVED
from vllm.errors import UsageError


def refusal(*arguments: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse(["serve", *arguments])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults() -> None:
    parsed = parse(["serve"])
    assert (parsed.model, parsed.host, parsed.port) == (None, "127.0.0.1", 8000)


def test_values() -> None:
    parsed = parse(
        [
            "serve",
            "m",
            "--port",
            "1",
            "--served-model-name",
            "a",
            "b",
            "--api-key=k",
            "--api-key",
            "l",
        ]
    )
    assert parsed.model == "m"
    assert parsed.served_model_name == ["a", "b"]
    assert parsed.api_key == ["k", "l"]


def test_underscores_are_dashes() -> None:
    assert parse(["serve", "--max_model_len", "5"]).max_model_len == 5
    assert parse(["serve", "--max_model_len=5"]).max_model_len == 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prot", "1"], "did you mean --port?"),
        (["--zzzzzz"], "unknown flag --zzzzzz"),
        (["--port"], "--port"),
        (["--port", "x"], "a number is needed"),
        (["--dtype", "int4"], "int4"),
        (["a", "b"], "unexpected argument 'b'"),
        (["--tool-call-parser", "x"], "--tool-call-parser is not served"),
        (["--ssl-ciphers=x"], "--ssl-ciphers x is not served: rustls"),
        (["--pipeline-parallel-size", "2"], "--pipeline-parallel-size 2 is not served"),
        (["--enable-lora"], "--enable-lora is not served"),
        (["--model", "x"], "name it as the first argument"),
    ],
)
def test_refusals(arguments: list[str], words: str) -> None:
    assert words in refusal(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--pipeline-parallel-size", "1"],
        ["--pipeline_parallel_size=1"],
        ["--no-async-scheduling"],
        ["--enforce-eager"],
        ["--allowed-origins", "[]"],
    ],
)
def test_values_that_ask_for_nothing_pass(arguments: list[str]) -> None:
    assert parse(["serve", *arguments, "m"]).model == "m"
    assert parse(["serve", "m", *arguments]).model == "m"


def test_no_flag_is_listed_twice() -> None:
    names = [flag.name for flag in SERVED] + [row.name for row in REFUSED]
    assert len(names) == len(set(names))


def test_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vllm.cli", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("vllm ")


@pytest.mark.parametrize("module", ["vllm.cli.main", "vllm.cli.serve", "vllm.api_server.__main__"])
def test_supervisor_and_frontend_never_import_torch(module: str) -> None:
    program = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("place", ["--port=1", "--host=::1"])
def test_a_unix_socket_and_an_address_exclude_each_other(place: str) -> None:
    line = refusal("--uds", "/tmp/s", place)
    assert "--uds" in line and place.partition("=")[0] in line
    assert parse(["serve", "--uds", "/tmp/s"]).uds == "/tmp/s"
