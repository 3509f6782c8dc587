# SPDX-License-Identifier: Apache-2.0
"""The configuration file of a test: the specification's keys, each of which a test may replace.

Owns the defaults of tests only; the tool has its own.
"""

import json
from pathlib import Path

from .edits import tip

Value = str | int | bool | list[str] | None


def write_config(host: Path, source: Path, path: Path | None = None, **overrides: Value) -> Path:
    """Writes the file beside the host (inside it would make the host dirty) and returns its path.

    ``target__prefix="a/b"`` replaces a key of a table, ``name="x"`` one of the top.
    None leaves the key out.
    """
    values = {**defaults(source), **overrides}
    if "source__pin" not in overrides:
        values["source__pin"] = tip(source, str(values["source__ref"]))
    where = path or host.with_name(host.name + ".toml")
    where.write_text(as_toml(values))
    return where


def defaults(source: Path) -> dict[str, Value]:
    return {
        "schema": 1,
        "name": "frontend",
        "source__url": str(source),
        "source__ref": "refs/heads/main",
        "target__prefix": "rust",
        "target__base": "main",
        "target__branch": "import/frontend",
        "target__layout": "merge",
        "target__replaces_submodule": True,
        "target__ignore_revs": ".git-blame-ignore-revs",
        "messages__qualify": "Inferact/vllm-frontend-rs",
        "messages__defuse_closing_keywords": True,
        "messages__translate_hashes": True,
        "engine__use": "both",
        "engine__filter_repo": "2.47.0",
        "keep__originals": True,
        "require__license": False,
        "require__dco": "report",
        "require__max_blob_bytes": 5242880,
    }


def as_toml(values: dict[str, Value]) -> str:
    """A JSON string, number, list or boolean is a TOML one as well."""
    top = [
        f"{key} = {json.dumps(value)}"
        for key, value in values.items()
        if "__" not in key and value is not None
    ]
    tables: dict[str, list[str]] = {}
    for key, value in values.items():
        table, mark, name = key.partition("__")
        if mark and value is not None:
            tables.setdefault(table, []).append(f"{name} = {json.dumps(value)}")
    parts = [
        "\n".join(top),
        *(f"[{table}]\n" + "\n".join(lines) for table, lines in tables.items()),
    ]
    return "\n\n".join(parts) + "\n"
