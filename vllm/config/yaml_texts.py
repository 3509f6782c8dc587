# SPDX-License-Identifier: Apache-2.0
"""YAML whose scalars are texts, but for true, false and null; a key stands once.

Must not know what the texts mean.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any, ClassVar

import yaml


class TwiceError(Exception):
    """A key stands again on line `line`."""

    def __init__(self, key: str, line: int) -> None:
        super().__init__(key, line)
        self.key, self.line = key, line


class NotYAMLError(Exception):
    """The text cannot be read from line `line` on, where that is known."""

    def __init__(self, line: int | None) -> None:
        super().__init__(line)
        self.line = line


def load(text: bytes) -> Any:
    """What the text says. Raises TwiceError and NotYAMLError."""
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        raise NotYAMLError(mark.line + 1 if mark else None) from None


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _value in node.value:
            if isinstance(key.value, str) and key.value in seen:
                raise TwiceError(key.value, key.start_mark.line + 1)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile("^(~|null|Null|NULL|)$"), ["~", "n", "N", ""]
)
