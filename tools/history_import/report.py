# SPDX-License-Identifier: Apache-2.0
"""A verb's result as lines for a person or as JSON; the same facts either way.

Results are frozen dataclasses with `lines()` for people and, when not always 0, an `exit_code`.
Knows nothing of what a result means.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any, Protocol

from .errors import HistoryImportError


class Result(Protocol):
    def lines(self) -> list[str]: ...


def plain(value: Any) -> Any:
    """Dataclasses to dictionaries; bytes as UTF-8, what is not UTF-8 as backslash escapes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        shown = (item for item in dataclasses.fields(value) if item.repr)
        return {item.name: plain(getattr(value, item.name)) for item in shown}
    if isinstance(value, dict):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value) if isinstance(value, Path) else value


def exit_code(result: Result) -> int:
    return int(getattr(result, "exit_code", 0))


def printable(line: str) -> str:
    """What came from a name that is not UTF-8 becomes an escape."""
    return line.encode("utf-8", "backslashreplace").decode()


def show(verb: str, result: Result, as_json: bool) -> None:
    if as_json:
        data = {"verb": verb, "exit": exit_code(result), "result": plain(result)}
        print(json.dumps(data, indent=2))
        return
    for line in result.lines():
        print(printable(line))


def show_error(verb: str, error: HistoryImportError, as_json: bool) -> None:
    if as_json:
        facts = {"error": type(error).__name__, "message": error.message, "remedy": error.remedy}
        print(json.dumps({"verb": verb, "exit": error.exit_code} | facts, indent=2))
    print(f"history-import {verb}: {error}", file=sys.stderr)
