# SPDX-License-Identifier: Apache-2.0
"""Sockets of a start: nameless for engines, one line when the HTTP one cannot be opened."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from vllm.cli.sockets import open_engine_sockets, open_http
from vllm.config.serve import HTTPConfig, ParallelConfig
from vllm.errors import AddressError


def test_engine_sockets_have_no_name_and_can_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("long" * 30)  # longer than a socket's path may be
    deep.mkdir()
    monkeypatch.setenv("VLLM_RPC_BASE_PATH", str(deep))
    sockets = open_engine_sockets(ParallelConfig())
    assert list(deep.iterdir()) == []
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(sockets.input.address.removeprefix("ipc://"))
    assert all(os.get_inheritable(number) is False for number in sockets.passed)
    sockets.close()


def test_engines_elsewhere_need_tcp() -> None:
    sockets = open_engine_sockets(ParallelConfig(size=2, size_local=1, rpc_port=0))
    assert all(each.address.startswith("tcp://127.0.0.1:") for each in sockets.all)
    assert sockets.passed == ()
    sockets.close()


def test_a_folder_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_RPC_BASE_PATH", "/no/such/folder")
    with pytest.raises(AddressError, match="/no/such/folder"):
        open_engine_sockets(ParallelConfig())


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (HTTPConfig("192.0.2.1", 0), "no such address"),
        (HTTPConfig("no.such.host.invalid", 0), "no.such.host.invalid"),
        (HTTPConfig(uds="/no/such/folder/s"), "/no/such/folder/s"),
    ],
)
def test_addresses_that_cannot_be_opened(config: HTTPConfig, words: str) -> None:
    with pytest.raises(AddressError, match=words):
        open_http(config)


def test_a_unix_socket_that_somebody_listens_on_is_left_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    first = open_http(HTTPConfig(uds=path))
    with pytest.raises(AddressError, match="a server listens there"):
        open_http(HTTPConfig(uds=path))
    first.sock.close()
    open_http(HTTPConfig(uds=path)).sock.close()


def test_another_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(AddressError):
        open_http(HTTPConfig(uds=str(path)))
    assert path.read_text() == "mine"


def test_the_file_of_a_server_that_took_over_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first = open_http(HTTPConfig(uds=str(path)))
    path.unlink()
    second = open_http(HTTPConfig(uds=str(path)))
    first.remove_file()
    assert path.exists()
    second.remove_file()
    assert not path.exists()
    first.sock.close()
    second.sock.close()
