# SPDX-License-Identifier: Apache-2.0
"""Flags of `vllm serve` become the engine's configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.models import TINY, write_tokenizer
from vllm.cli.parser import parse
from vllm.config.model_source import ModelSource
from vllm.config.serve import ServeConfig, serve_config
from vllm.errors import ModelError, UsageError
from vllm.text.tokenizer import load_tokenizer


def config(*flags: str) -> ServeConfig:
    return serve_config(parse(["serve", *flags]), ModelSource("m", Path("m"), "directory"))


def test_prefix_caching_is_on_unless_told_otherwise() -> None:
    assert config().engine.enable_prefix_caching
    assert config("--enable-prefix-caching").engine.enable_prefix_caching
    assert not config("--no-enable-prefix-caching").engine.enable_prefix_caching
    with pytest.raises(UsageError, match="exclude each other"):
        config("--enable-prefix-caching", "--no-enable-prefix-caching")


def test_a_unix_socket_has_a_path() -> None:
    assert config("--uds", "x.sock").http.uds == "x.sock"
    with pytest.raises(UsageError, match=r"--uds.*a path is needed"):
        config("--uds", "")


def test_scheduling_policy_reaches_the_engine() -> None:
    assert config().engine.scheduling_policy == "priority"
    assert config("--scheduling-policy", "fcfs").engine.scheduling_policy == "fcfs"
    with pytest.raises(UsageError, match="lifo"):
        config("--scheduling-policy", "lifo")


def test_more_engines_than_a_host_can_hold_are_refused() -> None:
    assert config("--data-parallel-size", "2").parallel.size_local == 2
    with pytest.raises(UsageError, match=r"5000 engines on this host, which has \d+ CPUs: at most"):
        config("--data-parallel-size", "5000")
    with pytest.raises(UsageError, match="65537, at most 65536"):
        config("--data-parallel-size", "65537", "--data-parallel-size-local", "0")
    remote = config("--data-parallel-size", "5000", "--data-parallel-size-local", "1")
    assert remote.parallel.size == 5000


def test_keys_of_a_file_are_its_lines_without_comments_and_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_bytes(b"\xef\xbb\xbffirst\r\n\n  second \n# third\n  # fourth\n")
    frontend = config("--api-key-file", str(file)).frontend
    assert tuple(frontend.api_key) == ("first", "second")


def test_a_length_beyond_the_models_is_refused_with_both_numbers(tmp_path: Path) -> None:
    own = TINY | {"max_position_embeddings": 100}
    (tmp_path / "config.json").write_text(json.dumps(own))
    source = ModelSource("m", tmp_path, "directory")
    serve_config(parse(["serve", "--max-model-len", "100"]), source)
    with pytest.raises(ModelError, match=r"--max-model-len is 101, but m was made for 100"):
        serve_config(parse(["serve", "--max-model-len", "101"]), source)
    stretched = own | {"rope_scaling": {"rope_type": "dynamic", "factor": 1.5}}
    (tmp_path / "config.json").write_text(json.dumps(stretched))
    serve_config(parse(["serve", "--max-model-len", "150"]), source)
    with pytest.raises(ModelError, match=r"--max-model-len is 151, but m was made for 150"):
        serve_config(parse(["serve", "--max-model-len", "151"]), source)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"config.json: architecture None is not supported"):
        serve_config(parse(["serve", "--max-model-len", "101"]), source)


MARKS = '{"reasoning_start_str": "<t>", "reasoning_end_str": "!"}'


def test_marks_of_thoughts_reach_the_engine_as_tokens(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    source = ModelSource("m", tmp_path, "directory")
    known = serve_config(parse(["serve", "--reasoning-config", MARKS]), source)
    encode = load_tokenizer(tmp_path).encode
    assert known.engine.thinking_start == tuple(encode("<t>", add_special_tokens=False))
    assert known.engine.thinking_end == tuple(encode("!", add_special_tokens=False))
    assert known.frontend.to_json()["reasoning_config"] == json.loads(MARKS)
    assert config().engine.thinking_start == ()
    assert "reasoning_config" not in config().frontend.to_json()


@pytest.mark.parametrize(
    "marks", ["<think>", "[]", "{}", '{"reasoning_start_str": "<t>"}', MARKS.replace('"!"', '""')]
)
def test_marks_that_say_too_little_are_refused(marks: str) -> None:
    with pytest.raises(UsageError, match=r"reasoning-config.*reasoning_start_str"):
        config("--reasoning-config", marks)
