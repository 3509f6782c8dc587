# SPDX-License-Identifier: Apache-2.0
"""A source of 100,001 commits: both engines agree, all is proved, memory stays below 1 GB."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from . import kit
from .generator import git, tip, write_config
from .generator.scale import COMMITS, MERGES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]
# Kilobytes, of the largest process.
MEMORY = 1_000_000


def verb(case: kit.Case, name: str, *options: str) -> str:
    """In a process of its own, so that its memory can be told from the test's."""
    command = [sys.executable, "-m", "tools.history_import", name, str(case.config)]
    where = ["--host", str(case.host), *options]
    done = subprocess.run([*command, *where], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_source_has_the_size_it_says() -> None:
    source = kit.source("scale")
    assert int(git(source, "rev-list", "--count", "main")) == COMMITS
    assert int(git(source, "rev-list", "--count", "--merges", "main")) == MERGES
    kinds = git(
        source, "cat-file", "--batch-all-objects", "--batch-check=%(objecttype)", "--unordered"
    )
    assert 230_000 < kinds.count("blob") < 250_000
    assert tip(source) == "dbf622bd347240b44760035a68d125b721c09e52"


def test_import_verify_and_a_second_run(tmp_path: Path) -> None:
    source = kit.source("scale")
    host = kit.host("plain", tmp_path / "host")
    case = kit.Case(host, source, write_config(host, source))
    said = verb(case, "import")
    assert f"proof   {COMMITS:,}/{COMMITS:,} commits" in said
    assert "proved" in verb(case, "verify", "--ref", "import/frontend", "--no-blame")
    assert verb(case, "import").startswith("nothing to do")
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < MEMORY
