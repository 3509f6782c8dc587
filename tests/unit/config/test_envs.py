# SPDX-License-Identifier: Apache-2.0
"""Environment variables: accepted words, defaults, errors that name the variable."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vllm import envs
from vllm.errors import UsageError

PACKAGE = Path(envs.__file__).parent


@pytest.mark.parametrize("word", ["1", "true", "YES", "On", " true "])
def test_true_words(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv("VLLM_USE_RUST_FRONTEND", word)
    assert envs.VLLM_USE_RUST_FRONTEND is True


@pytest.mark.parametrize("word", ["0", "false", "NO", "Off"])
def test_false_words(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv("VLLM_USE_RUST_FRONTEND", word)
    assert envs.VLLM_USE_RUST_FRONTEND is False


def test_unset_and_empty_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_USE_RUST_FRONTEND", raising=False)
    assert envs.VLLM_USE_RUST_FRONTEND is None
    monkeypatch.setenv("VLLM_RUST_FRONTEND_PATH", "")
    assert envs.VLLM_RUST_FRONTEND_PATH == "auto"


def test_an_error_names_variable_value_and_accepted_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_USE_RUST_FRONTEND", "2")
    with pytest.raises(UsageError, match=r"VLLM_USE_RUST_FRONTEND is '2'.*yes.*off"):
        envs.check()


def test_seconds_have_fractions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_HTTP_TIMEOUT_KEEP_ALIVE", "0.5")
    assert envs.VLLM_HTTP_TIMEOUT_KEEP_ALIVE == 0.5


@pytest.mark.parametrize(
    ("text", "size"),
    [("100", 100), ("1k", 1000), ("1.5MiB", 3 << 19), ("2 GB", 2 * 10**9), ("7b", 7)],
)
def test_sizes(text: str, size: int) -> None:
    assert envs.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "-1", "1 parsec", "1.2.3"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="KiB"):
        envs.parse_size(text)


def test_every_variable_has_a_line_of_doc_and_a_default_of_its_own_form() -> None:
    for name, variable in envs.VARIABLES.items():
        assert name.startswith("VLLM_") or name == "RUST_LOG", name
        assert variable.doc.endswith("."), name
        assert "\n" not in variable.doc, name


def test_no_other_module_reads_a_variable_that_is_not_declared() -> None:
    """Names of the package's own variables in the code are names of the table."""
    build_time = {"VLLM_TARGET_DEVICE", "VLLM_BUILD_RUST"}
    for path in PACKAGE.rglob("*.py"):
        named = set(re.findall(r"envs\.(VLLM_[A-Z0-9_]+)", path.read_text()))
        read = set(re.findall(r"environ\S*[\[(]\"(VLLM_[A-Z0-9_]+)", path.read_text()))
        assert named | read <= set(envs.VARIABLES) | build_time, path


def test_an_undeclared_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="VLLM_NO_SUCH"):
        _ = envs.VLLM_NO_SUCH


@pytest.mark.parametrize("text", ["0.5", "nan", "inf", "-inf", "1e999"])
def test_seconds_are_finite(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("VLLM_ENGINE_READY_TIMEOUT_S", text)
    with pytest.raises(UsageError, match="seconds, at least 1"):
        envs.check()


def test_a_key_that_was_not_filled_in_does_not_open_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for nothing in ("", " ", "\n"):
        monkeypatch.setenv("VLLM_API_KEY", nothing)
        with pytest.raises(UsageError, match=r"VLLM_API_KEY is .*; accepted: a key"):
            _ = envs.VLLM_API_KEY
    monkeypatch.setenv("VLLM_API_KEY", "secret\n")
    assert envs.VLLM_API_KEY == "secret"
