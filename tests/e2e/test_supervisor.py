# SPDX-License-Identifier: Apache-2.0
"""The life of the processes below `vllm serve`: start, stop, and every order of deaths."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import Start
from tests.e2e.loopback import free_port
from tests.e2e.server import PATIENCE_S, wait_for
from tests.e2e.streams import Reader, complete
from vllm.errors import ExitCode


def test_serves_and_ends_on_a_signal(
    start: Start, tiny_model: Path, frontend: dict[str, str]
) -> None:
    server = start(tiny_model, "--port", 0, "--served-model-name", "tiny", **frontend).wait_ready()
    answer = complete(server, model="tiny").json()
    assert answer["usage"]["completion_tokens"] == 4
    server.process.send_signal(signal.SIGINT)
    assert server.wait_exit() == ExitCode.OK
    assert server.errors == []
    assert "is killed" not in server.log, "every child ends by itself"
    server.assert_nothing_left()


def test_start_up_says_each_phase_and_a_command_to_try(start: Start, tiny_model: Path) -> None:
    log = start(tiny_model, "--port", 0).wait_ready().log
    for phase in ("torch: ", "weights: ", "KV cache: ", "ready: "):
        assert phase in log
    assert "try: curl -N http://127.0.0.1:" in log


def test_every_line_of_a_json_log_is_an_object(
    start: Start, tiny_model: Path, frontend: dict[str, str]
) -> None:
    server = start(tiny_model, "--port", 0, "--log-format", "json", **frontend)
    wait_for(lambda: server.ended or '"ready: ' in server.log, "the server to be ready")
    server.process.send_signal(signal.SIGTERM)
    assert server.wait_exit() == ExitCode.OK
    lines = server.log.splitlines()
    assert {json.loads(line)["process"] for line in lines} >= {"supervisor", "engine 0"}


def test_a_download_ends_on_a_signal(start: Start, tmp_path: Path) -> None:
    """The hub here accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as hub:
        hub.settimeout(PATIENCE_S)
        url = f"http://127.0.0.1:{hub.getsockname()[1]}"
        server = start(
            "org/model", HF_ENDPOINT=url, HF_HOME=str(tmp_path / "hub"), HF_HUB_OFFLINE="0"
        )
        connection, _ = hub.accept()
        server.process.send_signal(signal.SIGINT)
        assert server.wait_exit() == ExitCode.OK
        connection.close()
    assert server.errors == []


def refuses(address: httpx.URL) -> bool:
    """Nobody listens there."""
    try:
        socket.create_connection((address.host, address.port or 80), 5).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # the socket was closed with this connection in its queue
        return False
    return False


@pytest.mark.parametrize("victim", ["supervisor", "engine", "frontend"])
def test_a_killed_process_ends_everything(
    start: Start, tiny_model: Path, frontend: dict[str, str], victim: str
) -> None:
    none = ["--engine-restarts", 0]
    server = start(tiny_model, "--port", 0, *none, **frontend).wait_ready()
    address = httpx.URL(server.url)
    server.kill(victim)
    code = server.wait_exit()
    server.assert_nothing_left()
    # A dying process closes its sockets a moment after its memory is gone.
    wait_for(lambda: refuses(address), f"the end of the socket at {address}")
    if victim == "supervisor":
        return
    expected = {"engine": ExitCode.ENGINE_DIED, "frontend": ExitCode.FRONTEND_DIED}[victim]
    assert code == expected
    last = server.errors[-1]
    assert victim in last
    assert "SIGKILL" in last


@pytest.mark.parametrize("victim", ["supervisor", "engine", "frontend"])
def test_a_process_killed_during_the_start_ends_everything(
    start: Start, tiny_model: Path, frontend: dict[str, str], victim: str
) -> None:
    server = start(tiny_model, "--port", 0, **frontend)
    server.wait_pid("frontend")
    server.wait_pid("engine")
    server.kill(victim)
    code = server.wait_exit()
    server.assert_nothing_left()
    if victim == "supervisor":
        return
    expected = {"engine": ExitCode.ENGINE_START, "frontend": ExitCode.FRONTEND_START}[victim]
    assert code == expected
    assert "SIGKILL" in server.errors[-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_the_start_is_a_clean_end(
    start: Start, tiny_model: Path, number: signal.Signals
) -> None:
    server = start(tiny_model, "--port", 0)
    server.wait_pid("engine")
    server.process.send_signal(number)
    assert server.wait_exit() == ExitCode.OK
    assert server.errors == []
    server.assert_nothing_left()


def test_the_death_of_two_processes_at_once(start: Start, tiny_model: Path) -> None:
    server = start(tiny_model, "--port", 0).wait_ready()
    engine = server.wait_pid("engine")
    server.kill("supervisor", signal.SIGSTOP)
    for pid in (engine, server.wait_pid("frontend")):
        os.kill(pid, signal.SIGKILL)
    server.kill("supervisor")
    server.wait_exit()
    server.assert_nothing_left()


def test_streams_of_a_dead_engine_end_with_an_error(
    start: Start, tiny_model: Path, frontend: dict[str, str]
) -> None:
    none = ["--engine-restarts", 0]
    server = start(tiny_model, "--port", 0, *none, **frontend).wait_ready()
    readers = [Reader(server) for _ in range(5)]  # more: the first could be through
    server.kill("engine")
    assert server.wait_exit() == ExitCode.ENGINE_DIED
    for reader in readers:
        reader.join(60)
        assert any(line.startswith('data: {"error":') for line in reader.lines[-2:]), reader.lines


def test_running_requests_finish_within_the_shutdown_timeout(
    start: Start, tiny_model: Path, frontend: dict[str, str]
) -> None:
    server = start(tiny_model, "--port", 0, "--shutdown-timeout", 60, **frontend).wait_ready()
    reader = Reader(server, max_tokens=400)
    server.process.send_signal(signal.SIGTERM)
    assert server.wait_exit() == ExitCode.OK
    reader.join(60)
    assert reader.lines[-1] == "data: [DONE]"
    server.assert_nothing_left()


def test_a_second_signal_ends_everything_now(
    start: Start, tiny_model: Path, frontend: dict[str, str]
) -> None:
    server = start(tiny_model, "--port", 0, "--shutdown-timeout", 600, **frontend).wait_ready()
    reader = Reader(server)
    server.process.send_signal(signal.SIGTERM)
    wait_for(lambda: "stopping on SIGTERM" in server.log, "the first signal to be taken")
    server.process.send_signal(signal.SIGTERM)
    assert server.wait_exit() == 128 + signal.SIGTERM
    server.assert_nothing_left()
    reader.join(60)
    assert reader.lines[-1] != "data: [DONE]"


def test_keys_show_in_no_command_line_and_no_log(
    start: Start, tiny_model: Path, frontend: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    file.write_text("key-of-the-file\n")
    server = start(
        tiny_model,
        "--port",
        0,
        "--api-key-file",
        file,
        VLLM_API_KEY="key-of-the-environment",
        **frontend,
    ).wait_ready()
    for command in server.processes().values():
        assert "key-of-the" not in command
    assert complete(server).status_code == 401
    for key in ("key-of-the-file", "key-of-the-environment"):
        headers = {"Authorization": f"Bearer {key}"}
        assert httpx.get(f"{server.url}/v1/models", headers=headers).status_code == 200
    assert httpx.get(f"{server.url}/health").status_code == 200
    assert "key-of-the" not in server.log


def test_a_key_of_the_command_line_is_not_passed_on(start: Start, tiny_model: Path) -> None:
    server = start(tiny_model, "--port", 0, "--api-key", "key-of-the-flag").wait_ready()
    others = {p: c for p, c in server.processes().items() if p != server.process.pid}
    assert others
    assert not any("key-of-the-flag" in command for command in others.values())
    assert "key-of-the-flag" not in server.log
    assert complete(server).status_code == 401


def test_a_unix_socket(start: Start, tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    abandoned = socket.socket(socket.AF_UNIX)
    abandoned.bind(str(path))
    abandoned.close()  # the file of a server that was killed
    server = start(tiny_model, "--uds", path).wait_ready()
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
        assert client.get("http://localhost/v1/models").status_code == 200
    server.process.send_signal(signal.SIGTERM)
    assert server.wait_exit() == ExitCode.OK
    assert not path.exists()


def test_two_engines_on_this_host(start: Start, tiny_model: Path, frontend: dict[str, str]) -> None:
    server = start(tiny_model, "--port", 0, "--data-parallel-size", 2, **frontend).wait_ready()
    assert "engine 1: " in server.log
    prompts = ["one", "two", "three", "four"]
    assert len(complete(server, prompt=prompts).json()["choices"]) == len(prompts)


def test_an_engine_of_another_host(
    start: Start, tiny_model: Path, frontend: dict[str, str]
) -> None:
    common = ["--data-parallel-size", 2, "--data-parallel-rpc-port", free_port()]
    server = start(tiny_model, "--port", 0, "--data-parallel-size-local", 1, *common, **frontend)
    remote = start(tiny_model, "--headless", "--data-parallel-start-rank", 1, *common)
    server.wait_ready()
    assert len(complete(server, prompt=["one", "two"]).json()["choices"]) == 2
    remote.process.send_signal(signal.SIGTERM)
    assert remote.wait_exit() == ExitCode.OK
    remote.assert_nothing_left()
    # Requests go on with the engine that is left.
    assert complete(server).status_code == 200


def test_requests_of_an_engine_elsewhere_finish_within_its_shutdown_timeout(
    start: Start, tiny_model: Path, frontend: dict[str, str]
) -> None:
    common = ["--data-parallel-size", 2, "--data-parallel-rpc-port", free_port()]
    server = start(tiny_model, "--port", 0, "--data-parallel-size-local", 1, *common, **frontend)
    elsewhere = ["--headless", "--data-parallel-start-rank", 1, "--shutdown-timeout", 60]
    remote = start(tiny_model, *elsewhere, *common)
    server.wait_ready()
    reader = Reader(server, prompt=["one", "two"], max_tokens=400)  # one on each engine
    remote.process.send_signal(signal.SIGTERM)
    assert remote.wait_exit() == ExitCode.OK
    reader.join(60)
    assert reader.lines[-1] == "data: [DONE]"


def test_public_metrics_and_request_ids(
    start: Start, tiny_model: Path, frontend: dict[str, str]
) -> None:
    flags = ["--api-key", "k", "--public-metrics", "--enable-request-id-headers"]
    server = start(tiny_model, "--port", 0, *flags, **frontend).wait_ready()
    answer = httpx.get(f"{server.url}/metrics", headers={"X-Request-Id": "mine"})
    assert answer.status_code == 200
    assert answer.headers["x-request-id"] == "mine"
    assert "vllm:num_requests_running" in answer.text
    assert httpx.get(f"{server.url}/v1/models").status_code == 401
