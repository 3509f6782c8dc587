# SPDX-License-Identifier: Apache-2.0
"""Golden vectors for the Python tests: reading them, and messages in the form of their values."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from vllm.protocol.messages import NestedTensors, Tensor

FOLDER = Path(__file__).parent / "golden"


def load(*names: str) -> list[dict[str, Any]]:
    """The cases of some files, with frames as bytes."""
    cases = []
    for name in names:
        for case in json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")):
            frames = [bytes.fromhex(frame) for frame in case["frames"]]
            cases.append(case | {"frames": frames})
    return cases


def to_value(item: Any) -> Any:
    """A message as the vectors write it: by name, without what has its default."""
    writer = _WRITERS.get(type(item))
    if writer is not None:
        return writer(item)
    if isinstance(item, Enum):
        return item.value
    if isinstance(item, msgspec.Struct):
        return _named(item, [(f.name, _default(f)) for f in msgspec.structs.fields(item)])
    if is_dataclass(item):
        return _named(item, [(f.name, f.default) for f in fields(item)])
    return item


def _map(item: dict[Any, Any]) -> dict[str, Any]:
    if any(not isinstance(key, str) for key in item):
        return {"$map": [[to_value(key), to_value(value)] for key, value in item.items()]}
    return {key: to_value(value) for key, value in item.items()}


def _named(item: Any, names: list[tuple[str, Any]]) -> dict[str, Any]:
    found = [(name, to_value(getattr(item, name)), to_value(default)) for name, default in names]
    return {name: value for name, value, default in found if value != default}


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return MISSING


def _array(dtype: str, shape: tuple[int, ...], data: bytes) -> dict[str, Any]:
    return {"$array": {"dtype": dtype, "shape": list(shape), "data": data.hex()}}


_WRITERS: dict[type, Callable[[Any], Any]] = {
    np.ndarray: lambda item: _array(item.dtype.str, item.shape, item.tobytes()),
    Tensor: lambda item: _array(item.dtype, item.shape, bytes(item.data)),
    NestedTensors: lambda item: to_value(item.value),
    set: sorted,
    list: lambda item: [to_value(entry) for entry in item],
    dict: _map,
}
