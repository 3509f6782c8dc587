# SPDX-License-Identifier: Apache-2.0
"""One table of flags per language, and both say the same; the pages are what the tables say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from tests.e2e.conftest import RUST_MISSING, rust_frontend
from tools.dev import reference_pages
from vllm.config.flags import SERVED, Flag

# What a launcher of headless engines has no use for, or passes on behind `--`.
ONLY_PYTHON = {
    "uds",
    "headless",
    "data-parallel-start-rank",
    "tensor-parallel-size",
    "distributed-executor-backend",
}
# The supervisor decides about event loops by the default.
ONLY_RUST = {"shards"}
# vllm-rs starts its engines after it has bound the port, so any free one will do.
# The limits of silence have theirs in the transport (`Patience`): vllm-rs passes what is given.
OWN_DEFAULT = {"data-parallel-rpc-port", "engine-silence-timeout", "engine-prompt-timeout"}


@pytest.fixture(scope="module")
def binary() -> Path:
    path = rust_frontend()
    if path is None:
        pytest.skip(RUST_MISSING)
    return path


def test_the_pages_are_up_to_date(binary: Path) -> None:
    assert reference_pages.stale(binary) == [], "run tools/dev/reference_pages.py BINARY"


def test_the_interface_is_valid_openapi(binary: Path) -> None:
    document = json.loads(reference_pages.printed(binary, "openapi"))
    assert document["openapi"].startswith("3.1")
    validate(document)


def test_both_ways_of_starting_know_the_same_flags_with_the_same_defaults(binary: Path) -> None:
    theirs = reference_pages.options(binary)["vllm-rs serve"]
    ours = {flag.name: flag for flag in SERVED}
    engine = {flag.name for flag in SERVED if flag.group in ("model", "engine")}
    assert set(theirs) - set(ours) == ONLY_RUST
    assert set(ours) - set(theirs) - engine == ONLY_PYTHON
    for name in set(theirs) & set(ours):
        assert _choices(ours[name]) == theirs[name]["choices"], name
        if name not in OWN_DEFAULT:
            assert _same(ours[name].default, theirs[name]["default"]), name


def _choices(flag: Flag) -> list[str]:
    return list(flag.choices)


def _same(ours: Any, theirs: str | None) -> bool:
    if ours is None or theirs is None:
        return ours is theirs
    return ours == type(ours)(theirs)
