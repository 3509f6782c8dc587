# SPDX-License-Identifier: Apache-2.0
"""`--config FILE`: flags of `vllm serve` from a YAML file, as words of a command line.

A mapping of flag names (with dashes or underscores) to values, and `model` for MODEL. Values are
the texts that stand in the file: `0123` and `no` are what they look like. True is a switch that is
given, false one that is not (or its `--no-` flag), nothing leaves a flag out; a list is several
values. Knows of the flags only their shapes, which it is told.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllm.errors import UsageError

MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Shapes:
    """Names of flags by what follows them: nothing, one value, or several after one name or each
    after its own. Others are left to whoever reads the words.
    """

    switches: frozenset[str]
    single: frozenset[str]
    several: frozenset[str]
    repeated: frozenset[str]


@dataclass(frozen=True)
class ConfigFile:
    """`model` is MODEL where the file names it, `words` the flags with their values."""

    model: str | None
    words: tuple[str, ...]


def read(path: str, shapes: Shapes) -> ConfigFile:
    """Read a file. Raises UsageError naming the file, and the flag or line at fault."""
    values = _mapping(path)
    model = values.pop("model", None)
    if model is not None and not isinstance(model, str):
        raise UsageError(f"--config {path}: `model` is {model!r}; a text is needed")
    words = [word for name, value in values.items() for word in _words(path, name, value, shapes)]
    # A flag ends the values of one that takes several: what follows may be MODEL.
    return ConfigFile(model, (*words, f"--config={path}"))


def _text(path: str) -> bytes:
    try:
        with Path(path).expanduser().open("rb") as file:
            text = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror}") from None
    if len(text) > MOST_BYTES:
        raise UsageError(
            f"--config {path} is larger than {MOST_BYTES} bytes, the most that is read"
        )
    return text


def _mapping(path: str) -> dict[str, Any]:
    from vllm.config import yaml_texts  # noqa: PLC0415 (slow to load, and few starts need it)

    try:
        values = yaml_texts.load(_text(path))
    except yaml_texts.TwiceError as error:
        raise UsageError(
            f"--config {path}, line {error.line}: `{error.key}` is given twice"
        ) from None
    except yaml_texts.NotYAMLError as error:
        where = f", line {error.line}" if error.line else ""
        raise UsageError(f"--config {path} is not YAML{where}") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise UsageError(f"--config {path}: flags and their values are needed, as `port: 8000`")
    return _one_spelling(path, values)


def _one_spelling(path: str, values: dict[str, Any]) -> dict[str, Any]:
    spelled: dict[str, str] = {}
    for name in values:
        other = spelled.setdefault(name.replace("_", "-"), name)
        if other != name:
            raise UsageError(
                f"--config {path}: `{other}` and `{name}` are the same flag, given twice"
            )
    return {name: values[spelling] for name, spelling in spelled.items()}


def _words(path: str, name: str, value: Any, shapes: Shapes) -> list[str]:
    if name == "config":
        raise UsageError(f"--config {path} names `config`: one file is read")
    if value is None:
        return []
    if isinstance(value, bool):
        return _switch(path, name, value, shapes)
    if name in shapes.switches:
        raise UsageError(f"--config {path}: `{name}` is {value!r}; true or false is needed")
    if isinstance(value, list) and name in shapes.several | shapes.repeated:
        return _several(path, name, value, shapes)
    if isinstance(value, dict | list):
        return [f"--{name}={_json(path, name, value)}"]
    if not isinstance(value, str):
        raise UsageError(f"--config {path}: `{name}` is {value!r}; a text without a tag is needed")
    return [f"--{name}={value}"]


def _switch(path: str, name: str, on: bool, shapes: Shapes) -> list[str]:
    """A false says `--no-NAME`, but for a switch that has none and is off when it is left out."""
    if name in shapes.single | shapes.several | shapes.repeated:
        word = str(on).lower()
        raise UsageError(
            f'--config {path}: `{name}` is {word}, but it takes a value; "{word}" in quotes '
            "is a text"
        )
    if on:
        return [f"--{name}"]
    if name in shapes.switches and f"no-{name}" not in shapes.switches:
        return []
    return [f"--no-{name}"]


def _several(path: str, name: str, values: list[Any], shapes: Shapes) -> list[str]:
    if not values or not all(isinstance(value, str) for value in values):
        raise UsageError(f"--config {path}: `{name}` is {values!r}; a list of texts is needed")
    if name in shapes.repeated:
        return [f"--{name}={value}" for value in values]
    for value in values:
        if value.startswith("-"):
            raise UsageError(f"--config {path}: `{name}` has {value!r}, which looks like a flag")
    return [f"--{name}", *values]


def _json(path: str, name: str, value: Any) -> str:
    try:
        return json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        raise UsageError(f"--config {path}: `{name}` is not a value of JSON") from None
