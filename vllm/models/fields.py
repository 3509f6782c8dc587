# SPDX-License-Identifier: Apache-2.0
"""Typed access to a JSON object, with errors that name the file, the key and the value.

Must not know what a key means.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vllm.models.config import ModelConfigError

_LARGEST = 1 << 53  # up to here all integers are floats
_SHOWN = 80  # characters of a value in an error


class Fields:
    """`source` names the object in errors. A null counts as absent."""

    def __init__(self, values: Mapping[str, Any], source: str) -> None:
        self.values, self.source = values, source

    def wrong(self, key: str, expected: str) -> ModelConfigError:
        shown = _shortened(self.values.get(key))
        return ModelConfigError(f"{self.source}: {key} is {shown}, {expected} is expected")

    def has(self, key: str) -> bool:
        return self.values.get(key) is not None

    def number(self, key: str, default: float | None = None) -> float:
        value = self.values.get(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(key, "a number")
        if not _fits(value):
            raise self.wrong(key, "a finite number")
        return float(value)

    def positive(self, key: str, default: float | None = None) -> float:
        value = self.number(key, default)
        if value <= 0:
            raise self.wrong(key, "a number above 0")
        return value

    def integer(self, key: str, default: int | None = None) -> int:
        value = self.number(key, default)
        if not value.is_integer() or abs(value) > _LARGEST:
            raise self.wrong(key, f"an integer of at most {_LARGEST}")
        return int(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self.values.get(key)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def text(self, key: str, default: str) -> str:
        value = self.values.get(key)
        value = default if value is None else value
        if not isinstance(value, str):
            raise self.wrong(key, "a text")
        return value

    def numbers(self, key: str) -> tuple[float, ...]:
        value = self.values.get(key)
        if not isinstance(value, list) or any(
            isinstance(one, bool) or not isinstance(one, int | float) or not _fits(one)
            for one in value
        ):
            raise self.wrong(key, "a list of finite numbers")
        return tuple(float(one) for one in value)

    def object(self, key: str) -> Fields:
        """The object under `key`, empty where it is absent."""
        value = self.values.get(key)
        value = {} if value is None else value
        if not isinstance(value, Mapping):
            raise self.wrong(key, "an object")
        return Fields(value, f"{self.source}: {key}")

    def refuse_unless(self, key: str, accepted: Any, default: Any) -> None:
        """Refuse a value that is not the one that is computed."""
        value = self.values.get(key)
        value = default if value is None else value
        if value != accepted:
            raise ModelConfigError(
                f"{self.source}: {key} {value!r} is not supported, only {accepted!r}"
            )


def _fits(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer of hundreds of digits
        return False


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
