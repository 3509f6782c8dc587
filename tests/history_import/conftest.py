# SPDX-License-Identifier: Apache-2.0
"""Every test of history_import runs in a git environment of its own; dates and people are fixed."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from . import kit

PERSON = {
    "GIT_AUTHOR_NAME": "Mona Maintainer",
    "GIT_AUTHOR_EMAIL": "mona@example.org",
    "GIT_COMMITTER_NAME": "Mona Maintainer",
    "GIT_COMMITTER_EMAIL": "mona@example.org",
    "GIT_AUTHOR_DATE": "1780000000 +0200",
    "GIT_COMMITTER_DATE": "1780000000 +0200",
}


@pytest.fixture(scope="session", autouse=True)
def hermetic_git() -> Iterator[None]:
    """No configuration of this machine; set for the session so that shared fixtures see it."""
    before = {name: value for name, value in os.environ.items() if name.startswith("GIT_")}
    for name in before:
        del os.environ[name]
    ours = PERSON | {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    os.environ.update(ours)
    yield
    kit.remove_workshop()
    for name in ours:
        del os.environ[name]
    os.environ.update(before)
