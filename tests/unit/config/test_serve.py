# SPDX-License-Identifier: Apache-2.0
"""Flags of `vllm serve` become the engine's configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from vllm.cli.parser import parse
from vllm.config.model_source import ModelSource
from vllm.config.serve import ServeConfig, serve_config
from vllm.errors import UsageError


def config(*flags: str) -> ServeConfig:
    return serve_config(parse(["serve", *flags]), ModelSource("m", Path("m"), "directory"))


def test_prefix_caching_is_on_unless_told_otherwise() -> None:
    assert config().engine.enable_prefix_caching
    assert config("--enable-prefix-caching").engine.enable_prefix_caching
    assert not config("--no-enable-prefix-caching").engine.enable_prefix_caching
    with pytest.raises(UsageError, match="exclude each other"):
        config("--enable-prefix-caching", "--no-enable-prefix-caching")


def test_scheduling_policy_reaches_the_engine() -> None:
    assert config().engine.scheduling_policy == "priority"
    assert config("--scheduling-policy", "fcfs").engine.scheduling_policy == "fcfs"
    with pytest.raises(UsageError, match="lifo"):
        config("--scheduling-policy", "lifo")


def test_keys_of_a_file_are_its_lines_without_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_bytes(b"\xef\xbb\xbffirst\r\n\n  second \n")
    frontend = config("--api-key-file", str(file)).frontend
    assert tuple(frontend.api_key) == ("first", "second")
