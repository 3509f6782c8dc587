# SPDX-License-Identifier: Apache-2.0
"""The script of the page at `/`, run by Node before elements that are not there."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.server import ROOT

pytestmark = pytest.mark.clients
SCRIPT = ROOT / "rust" / "src" / "server" / "src" / "web" / "page.js"


def test_a_cleared_conversation_tells_the_next_one_nothing() -> None:
    node = shutil.which("node")
    assert node is not None, "node is missing: install Node.js >= 18"
    program = Path(__file__).parent / "programs" / "page.mjs"
    command = [node, str(program), str(SCRIPT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    questions = [[m["content"] for m in question] for question in json.loads(done.stdout)]
    assert questions == [["old topic"], ["new topic"]]
