# SPDX-License-Identifier: Apache-2.0
"""`--config FILE`: flags of `vllm serve` from a YAML file, as words of a command line.

A mapping of flag names (with dashes or underscores) to values, and `model` for MODEL. True is a
switch that is given, false or nothing one that is not; a list is several values. Must not know
which flags there are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vllm.errors import UsageError

MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class ConfigFile:
    """`model` is MODEL where the file names it, `words` the flags with their values."""

    model: str | None
    words: tuple[str, ...]


def read(path: str, lists: frozenset[str]) -> ConfigFile:
    """Read a file; flags in `lists` take several values after one name.

    Raises UsageError naming the file, and the flag or line at fault.
    """
    values = _mapping(path)
    model = values.pop("model", None)
    if model is not None and not isinstance(model, str):
        raise UsageError(f"--config {path}: `model` is {model!r}; a text is needed")
    words = [word for name, value in values.items() for word in _words(path, name, value, lists)]
    # A flag ends the values of one that takes several: what follows may be MODEL.
    return ConfigFile(model, (*words, f"--config={path}"))


def _mapping(path: str) -> dict[str, Any]:
    try:
        with Path(path).expanduser().open("rb") as file:
            values = yaml.safe_load(file.read(MOST_BYTES))
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise UsageError(f"--config {path} is not YAML{where}") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise UsageError(f"--config {path}: flags and their values are needed, as `port: 8000`")
    return {name.replace("_", "-"): value for name, value in values.items()}


def _words(path: str, name: str, value: Any, lists: frozenset[str]) -> list[str]:
    if name == "config":
        raise UsageError(f"--config {path} names `config`: one file is read")
    if value is None or value is False:
        return []
    if value is True:
        return [f"--{name}"]
    if isinstance(value, dict) or (isinstance(value, list) and name not in lists):
        return [f"--{name}={json.dumps(value)}"]
    if isinstance(value, list):
        return [f"--{name}", *map(str, value)]
    return [f"--{name}={value}"]
