# SPDX-License-Identifier: Apache-2.0
"""`schemathesis` over the server's own description: no 5xx, no status that is not described.

501 is how a route that is known and not served answers; the description says so.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.clients import environments
from tests.e2e.conftest import RUST_MISSING, rust_frontend
from tests.fuzz import mocked

pytestmark = [pytest.mark.download, pytest.mark.timeout(3000)]

MODEL = "SmolLM2-135M-Instruct"
PACKAGE = "schemathesis==4.32.5"
CONFIGURATION = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 501]
"""
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


def _run(folder: Path, *options: str) -> None:
    binary = rust_frontend()
    if binary is None:
        pytest.skip(RUST_MISSING)
    program = environments.python(PACKAGE).parent / "schemathesis"
    (folder / "schemathesis.toml").write_text(CONFIGURATION)
    with mocked.frontend(binary, MODEL, ["--output-len", "3"], folder) as url:
        command = [str(program), "--config-file", "schemathesis.toml", "run", f"{url}/openapi.json"]
        command += ["--no-color", "--continue-on-failure", "--checks", ",".join(CHECKS), *options]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and "Tested: 0" not in done.stdout, done.stdout[-3000:]


def test_a_few_requests_to_every_operation(tmp_path: Path) -> None:
    _run(tmp_path, "--phases", "fuzzing", "--max-examples", "5", "--seed", "1")


@pytest.mark.slow
def test_every_boundary_of_every_operation(tmp_path: Path) -> None:
    _run(tmp_path, "--phases", "examples,coverage,fuzzing", "--max-examples", "50", "--seed", "2")
