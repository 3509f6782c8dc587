# SPDX-License-Identifier: Apache-2.0
"""Rooms keep to what they must not know: the rules of docs/architecture.md as facts about imports.

Imports are read from the syntax trees, so that the check needs neither torch nor compiled kernels.
An import counts wherever it stands, in a function too, but for those under `TYPE_CHECKING`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# room -> packages, other people's or ours, that none of its files may name
MUST_NOT_NAME = {
    "cli": ("torch", "vllm.engine", "vllm.kernels", "vllm.models", "vllm.worker"),
    "config": ("torch", "zmq", "vllm.cli", "vllm.engine", "vllm.worker"),
    "protocol": ("torch", "vllm.engine", "vllm.scheduler", "vllm.kvcache", "vllm.worker"),
    "engine": ("vllm.kernels", "vllm.layers", "vllm.text", "vllm.api_server", "vllm.cli"),
    "scheduler": ("torch", "numpy", "zmq", "vllm.worker", "vllm.kernels", "vllm.protocol"),
    "kvcache": ("torch", "numpy", "zmq", "vllm.scheduler", "vllm.engine", "vllm.worker"),
    "worker": ("zmq", "vllm.protocol", "vllm.text", "vllm.api_server"),
    "distributed": ("zmq", "vllm.protocol", "vllm.scheduler", "vllm.sampling", "vllm.cli"),
    "models": ("vllm.scheduler", "vllm.engine", "vllm.worker", "vllm.sampling"),
    "layers": ("vllm.scheduler", "vllm.engine", "vllm.worker", "vllm.sampling"),
    "loader": ("vllm.layers", "vllm.scheduler", "vllm.engine", "vllm.worker"),
    "quantization": ("vllm.models", "vllm.layers", "vllm.engine", "vllm.worker"),
    "sampling": ("zmq", "starlette", "vllm.scheduler", "vllm.worker", "vllm.protocol"),
    "kernels": ("vllm.models", "vllm.layers", "vllm.loader", "vllm.engine", "vllm.worker"),
    "text": ("torch", "zmq", "starlette", "vllm.engine", "vllm.api_server"),
    "api_server": ("torch", "vllm.engine", "vllm.worker", "vllm.scheduler", "vllm.cli"),
}

# room -> packages that importing it must not load, however long the way there
MUST_NOT_LOAD = {
    "kernels": ("msgspec", "zmq"),
    "layers": ("msgspec", "zmq"),
    "models": ("msgspec", "zmq"),
    "loader": ("msgspec", "zmq"),
    "quantization": ("msgspec", "zmq"),
    "scheduler": ("torch", "zmq"),
    "kvcache": ("torch", "zmq", "msgspec"),
    "cli": ("torch",),
    "config": ("torch",),
    "protocol": ("torch",),
    "api_server": ("torch",),
}


def _files(room: str) -> list[Path]:
    return sorted((ROOT / "vllm" / room).rglob("*.py"))


def _module(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _file_of(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    for file in (path / "__init__.py", path.with_suffix(".py")):
        if file.is_file():
            return file
    return None


def _imports(node: ast.AST, at_load: bool) -> Iterator[str]:
    """Modules that a piece of code imports; with `at_load`, only those that run with it."""
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        return
    if at_load and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0 and node.module, "relative imports are not read here"
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    for child in ast.iter_child_nodes(node):
        yield from _imports(child, at_load)


@cache
def _named(file: Path, at_load: bool) -> frozenset[str]:
    return frozenset(_imports(ast.parse(file.read_text(encoding="utf-8")), at_load))


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def _loaded(module: str, way: dict[str, str]) -> dict[str, str]:
    """Every module that importing `module` loads, each with the one that asked for it."""
    file = _file_of(module)
    if file is None:
        return way
    for name in _named(file, True):
        for part in _with_parents(name):
            if part not in way:
                way[part] = module
                _loaded(part, way)
    return way


def _with_parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


@pytest.mark.parametrize("room", MUST_NOT_NAME)
def test_a_room_does_not_name_what_it_must_not_know(room: str) -> None:
    files = _files(room)
    assert files
    found = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in files
        for name in sorted(_named(file, False))
        for package in MUST_NOT_NAME[room]
        if _within(name, package)
    ]
    assert found == []


@pytest.mark.parametrize("room", MUST_NOT_LOAD)
def test_importing_a_room_does_not_load_what_it_must_not_need(room: str) -> None:
    found = []
    for file in _files(room):
        way = _loaded(_module(file), {})
        for package in MUST_NOT_LOAD[room]:
            if package in way:
                found.append(f"{_module(file)} loads {package} by way of {way[package]}")
    assert found == []


def test_only_kernels_call_the_compiled_libraries() -> None:
    callers = {
        file.relative_to(ROOT).parts[1]
        for file in (ROOT / "vllm").rglob("*.py")
        if "torch.ops" in file.read_text(encoding="utf-8")
    }
    assert callers == {"kernels"}


def test_only_envs_reads_variables_of_ours() -> None:
    """Kernels excepted: they are built and tested without the rest of the package."""
    reads = re.compile(r"""environ(\.get\(|\[)\s*["']VLLM_|getenv\(\s*["']VLLM_""")
    readers = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "vllm").rglob("*.py")
        if reads.search(file.read_text(encoding="utf-8"))
    }
    assert readers == {"vllm/kernels/library.py"}


def test_every_room_has_its_rules() -> None:
    rooms = {file.parent.name for file in (ROOT / "vllm").glob("*/__init__.py")}
    assert rooms == set(MUST_NOT_NAME)
