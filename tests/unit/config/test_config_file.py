# SPDX-License-Identifier: Apache-2.0
"""`--config FILE`: YAML becomes flags, the command line wins, errors name the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from vllm.cli.parser import parse
from vllm.errors import UsageError

FULL = """
model: some/model
port: 9000
served_model_name: [a, b]
api-key: [first]
allowed-origins: ["https://a.example"]
strict-fields: true
enable-scale-out: false
revision:
max-request-body-size: 1MiB
pipeline-parallel-size: 1
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "serve.yaml"
    path.write_text(FULL)
    return path


def test_a_file_gives_flags_and_the_model(file: Path) -> None:
    parsed = parse(["serve", "--config", str(file)])
    assert (parsed.model, parsed.port) == ("some/model", 9000)
    assert parsed.served_model_name == ["a", "b"]
    assert parsed.api_key == ["first"]
    assert parsed.allowed_origins == ["https://a.example"]
    assert (parsed.strict_fields, parsed.enable_scale_out) == (True, False)
    assert parsed.revision is None
    assert parsed.max_request_body_size == 1 << 20


def test_the_command_line_wins_and_keys_add_up(file: Path) -> None:
    flags = ["--port=1", "--served-model-name", "c", "--api-key", "second"]
    parsed = parse(["serve", "other", f"--config={file}", *flags])
    assert (parsed.model, parsed.port) == ("other", 1)
    assert parsed.served_model_name == ["c"]
    assert parsed.api_key == ["first", "second"]


def test_a_list_at_the_end_of_a_file_does_not_take_the_model(tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text("served-model-name: [a, b]")
    parsed = parse(["serve", "--config", str(path), "m"])
    assert (parsed.served_model_name, parsed.model) == (["a", "b"], "m")
    parsed = parse(["serve", "m", "--config", str(path)])
    assert (parsed.served_model_name, parsed.model) == (["a", "b"], "m")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot: 1", "unknown flag --prot; did you mean --port?"),
        ("port: x", "a number is needed"),
        ("pipeline-parallel-size: 2", "--pipeline-parallel-size 2 is not served"),
        ("config: other", "one file is read"),
        ("model: [a]", "`model` is ['a']; a text is needed"),
        ("- port", "flags and their values are needed"),
        ("port: [1", "is not YAML, line 1"),
        ("port: \xff", "a number is needed"),
        ("api-key-file: /k\napi_key_file: null", "`api-key-file` and `api_key_file` are the same"),
        ("port: 1\nhost: a\nport: 2", "line 3: `port` is given twice"),
        ("revision: false", '`revision` is false, but it takes a value; "false" in quotes'),
        ("port: true", "`port` is true, but it takes a value"),
        ("strict-fields: yes", "`strict-fields` is 'yes'; true or false is needed"),
        ('strict-fields: "false"', "`strict-fields` is 'false'; true or false is needed"),
        ("served-model-name: [a, true]", "is ['a', True]; a list of texts is needed"),
        ("served-model-name: [a, --port=1]", "'--port=1', which looks like a flag"),
        ("allowed-origins: &a [*a]", "`allowed-origins` is not a value of JSON"),
        ("port: " + "[" * 5000, "is not YAML"),
        ("port: !!int 0x10", "`port` is 16; a text without a tag is needed"),
        ("enable-chunked-prefill: false", "--no-enable-chunked-prefill false is not served"),
        ("prot: false", "unknown flag --no-prot"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        parse(["serve", "--config", str(path)])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "off"),
    [
        ("enable-prefix-caching: false", True),
        ("enable-prefix-caching: true", False),
        ("enable_prefix_caching: False", True),
        ("no-enable-prefix-caching: true", True),
        ("no-enable-prefix-caching: false", False),
        ("enable-prefix-caching:", False),
    ],
)
def test_a_false_switch_is_its_no_flag(tmp_path: Path, text: str, off: bool) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text(text)
    assert parse(["serve", "--config", str(path)]).no_enable_prefix_caching is off
    parsed = parse(["serve", "--config", str(path), "--enable-prefix-caching"])
    assert (parsed.enable_prefix_caching, parsed.no_enable_prefix_caching) == (True, False)


def test_a_switch_with_a_no_flag_only_is_turned_off_too(tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text("prefix-affinity: false")
    assert parse(["serve", "--config", str(path)]).no_prefix_affinity is True


def test_values_are_the_texts_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text(
        "revision: 0123456\nserved-model-name: [on, no, 1e3, 2026-01-02, ~x]\n"
        "api-key: [a, 0x1f]\nmodel: 12\nhost: 1:30\n"
    )
    parsed = parse(["serve", "--config", str(path)])
    assert (parsed.revision, parsed.model, parsed.host) == ("0123456", "12", "1:30")
    assert parsed.served_model_name == ["on", "no", "1e3", "2026-01-02", "~x"]
    assert parsed.api_key == ["a", "0x1f"]


def test_a_file_that_is_too_large_is_refused_whole(tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text("port: 1\n#" + "x" * (1 << 20) + "\nport: 2")
    with pytest.raises(UsageError, match="is larger than 1048576 bytes"):
        parse(["serve", "--config", str(path)])
    path.write_text("#" + "x" * ((1 << 20) - 9) + "\nport: 2")
    assert parse(["serve", "--config", str(path)]).port == 2


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--config .*absent.yaml: No such file"):
        parse(["serve", "--config", str(tmp_path / "absent.yaml")])


def test_nothing_in_a_file_makes_objects(tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text("port: !!python/object/apply:os.getpid []")
    with pytest.raises(UsageError, match="is not YAML"):
        parse(["serve", "--config", str(path)])
