# SPDX-License-Identifier: Apache-2.0
"""Every test of history_import runs in a git environment of its own; dates and people are fixed."""

from __future__ import annotations

import os

import pytest

PERSON = {
    "GIT_AUTHOR_NAME": "Mona Maintainer",
    "GIT_AUTHOR_EMAIL": "mona@example.org",
    "GIT_COMMITTER_NAME": "Mona Maintainer",
    "GIT_COMMITTER_EMAIL": "mona@example.org",
    "GIT_AUTHOR_DATE": "1780000000 +0200",
    "GIT_COMMITTER_DATE": "1780000000 +0200",
}


@pytest.fixture(scope="session", autouse=True)
def hermetic_git() -> None:
    """No configuration of this machine; set for the session so that shared fixtures see it."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        del os.environ[name]
    os.environ.update(PERSON | {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull})
