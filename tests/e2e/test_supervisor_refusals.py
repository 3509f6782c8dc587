# SPDX-License-Identifier: Apache-2.0
"""Starts that cannot succeed: one line with the cause, an exit code, nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import TINY_CONTEXT, Start
from tests.e2e.server import Server
from vllm.config.embedded import DEFAULT_MODEL, EMBEDDED, fetch
from vllm.errors import ExitCode


def refused(server: Server, code: ExitCode) -> str:
    """The one line of a start that failed with `code`."""
    assert server.wait_exit() == code, server.log
    assert "Traceback" not in server.log
    assert len(server.errors) == 1, server.log
    server.assert_nothing_left()
    return server.errors[0]


def test_port_in_use(start: Start, tiny_model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = refused(start(tiny_model, "--port", port), ExitCode.ADDRESS)
    assert str(port) in line
    assert "in use" in line


def test_missing_model(start: Start) -> None:
    assert "'/no/such/model'" in refused(start("/no/such/model"), ExitCode.MODEL)


def test_directory_without_weights(start: Start, tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "copy")
    (folder / "model.safetensors").unlink()
    assert "safetensors" in refused(start(folder), ExitCode.MODEL)


def test_truncated_weights(start: Start, tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "copy")
    weights = folder / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    assert "truncated" in refused(start(folder), ExitCode.MODEL)


@pytest.mark.parametrize("size", [0, 3, 100, 1 << 20, 90 << 20])
def test_truncated_gguf(start: Start, tmp_path: Path, size: int) -> None:
    whole = fetch(EMBEDDED[DEFAULT_MODEL])
    cut = tmp_path / "cut.gguf"
    with whole.open("rb") as source, cut.open("wb") as target:
        target.write(source.read(size))
    assert "cut.gguf" in refused(start(cut), ExitCode.MODEL)


def test_foreign_file(start: Start) -> None:
    assert "not a GGUF file" in refused(start(__file__), ExitCode.MODEL)


def test_unsupported_architecture(start: Start, tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": ["MartianForCausalLM"], "model_type": "martian"}
    (folder / "config.json").write_text(json.dumps(config))
    server = start(folder, "--port", 0)
    assert "artian" in refused(server, ExitCode.MODEL)
    assert "torch" not in server.log, "nothing was loaded"


def test_too_little_memory(start: Start, tiny_model: Path) -> None:
    server = start(tiny_model, "--port", 0, "--kv-cache-memory-bytes", "1KiB")
    assert "a KV cache of 1024 bytes" in refused(server, ExitCode.ENGINE_START)


def test_a_length_that_the_model_does_not_have(start: Start, tiny_model: Path) -> None:
    server = start(tiny_model, "--port", 0, "--max-model-len", TINY_CONTEXT + 1)
    line = refused(server, ExitCode.MODEL)
    assert f"--max-model-len is {TINY_CONTEXT + 1}" in line
    assert f"made for {TINY_CONTEXT} tokens" in line
    assert "torch" not in server.log, "nothing was loaded"


def test_hub_name_offline_and_absent(start: Start, tmp_path: Path) -> None:
    line = refused(start("org/absent", HF_HOME=str(tmp_path / "hub")), ExitCode.MODEL)
    assert "'org/absent' is not in the local hub cache" in line


def test_hub_name_from_the_local_cache(start: Start, tiny_model: Path, tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "hub" / "models--org--tiny"
    shutil.copytree(tiny_model, repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    server = start("org/tiny", "--port", 0, HF_HOME=str(tmp_path / "hub")).wait_ready()
    models = httpx.get(f"{server.url}/v1/models").json()["data"]
    assert [model["id"] for model in models] == ["org/tiny"]


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("VLLM_USE_RUST_FRONTEND", "maybe", "1/true/yes/on"),
        ("VLLM_HTTP_MAX_REQUEST_BODY_SIZE", "lots", "bytes"),
        ("VLLM_ENGINE_READY_TIMEOUT_S", "-1", "at least 1"),
        ("VLLM_LOGGING_LEVEL", "loud", "debug, info, warning or error"),
        ("VLLM_CPU_ISA", "mmx", "scalar, avx2, avx512 or amx"),
    ],
)
def test_bad_environment(
    start: Start, tiny_model: Path, name: str, value: str, accepted: str
) -> None:
    line = refused(start(tiny_model, **{name: value}), ExitCode.USAGE)
    assert name in line
    assert repr(value) in line
    assert accepted in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prot", "1"], "unknown flag --prot; did you mean --port?"),
        (["--tool-call-parser", "hermes"], "--tool-call-parser is not served: tool calls"),
        (["--pipeline-parallel-size", "2"], "--pipeline-parallel-size 2 is not served"),
        (["--port", "70000"], "from 0 (any free one) to 65535"),
        (["--max-num-seqs", "0"], "at least 1"),
        (["--num-threads", "1000000"], "num_threads is 1000000; at most 1024"),
        (["--kv-cache-dtype", "float16"], "--kv-cache-dtype float16 is not served on a CPU"),
        (["--data-parallel-start-rank", "1"], "needs --headless"),
        (["--data-parallel-size-local", "2"], "beyond --data-parallel-size 1"),
        (["--headless", "--data-parallel-size-local", "0"], "--data-parallel-size-local is 0"),
        (["--api-key-file", "/no/such/file"], "--api-key-file /no/such/file"),
        (["--chat-template", "/no/such/file"], "--chat-template /no/such/file"),
    ],
)
def test_bad_flags(start: Start, tiny_model: Path, arguments: list[str], words: str) -> None:
    assert words in refused(start(tiny_model, *arguments), ExitCode.USAGE)


def test_a_rust_frontend_that_is_not_there(start: Start, tiny_model: Path) -> None:
    server = start(tiny_model, VLLM_RUST_FRONTEND_PATH="/no/such/binary")
    assert "VLLM_RUST_FRONTEND_PATH" in refused(server, ExitCode.FRONTEND_BINARY)


@pytest.mark.parametrize(
    ("says", "words"),
    [
        ("vllm-rs 9.9.9 (wire 33)", "is vllm-rs 9.9.9 with wire 33"),
        ("vllm-rs 0.33.0", "with wire unknown"),
        ("hello", "is no vllm-rs"),
    ],
)
def test_a_rust_frontend_of_another_version(
    start: Start, tiny_model: Path, tmp_path: Path, says: str, words: str
) -> None:
    binary = tmp_path / "other"
    binary.write_text(f"#!/bin/sh\necho '{says}'\n")
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    server = start(tiny_model, VLLM_RUST_FRONTEND_PATH=str(binary))
    assert words in refused(server, ExitCode.FRONTEND_BINARY)


def test_a_bad_chat_template(start: Start, tiny_model: Path, frontend: dict[str, str]) -> None:
    server = start(tiny_model, "--port", 0, "--chat-template", "{% for %}", **frontend)
    assert "does not compile" in refused(server, ExitCode.USAGE)


def test_a_model_is_not_needed_to_be_named(start: Start, tmp_path: Path) -> None:
    """The default model is served under its own name, with one log line."""
    server = start("--port", 0, VLLM_CACHE_ROOT=str(fetch(EMBEDDED[DEFAULT_MODEL]).parent.parent))
    server.wait_ready()
    assert f"no MODEL given: serving {DEFAULT_MODEL}" in server.log
    body = {
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "temperature": 0,
        "max_tokens": 16,
    }
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=100).json()
    assert "Paris" in answer["choices"][0]["message"]["content"]
    server.process.send_signal(signal.SIGTERM)
    assert server.wait_exit() == ExitCode.OK
