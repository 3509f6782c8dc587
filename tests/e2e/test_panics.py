# SPDX-License-Identifier: Apache-2.0
"""A panic costs one request of the release build; the binary is built to panic when asked."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import RUST_MISSING, rust_frontend
from tests.e2e.crowd import Crowd, one
from tests.e2e.doubles import Deployment, Double, deployment, raise_descriptor_limit
from tests.e2e.server import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
OTHERS = 500


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release build with the feature `fault-injection`; the installed binary is left alone."""
    if rust_frontend() is None or (cargo := shutil.which("cargo")) is None:
        pytest.skip(RUST_MISSING)
    command = [cargo, "build", "--manifest-path", str(ROOT / "rust" / "Cargo.toml"), "--locked"]
    command += ["--release", "-p", "vllm-rs", "--features", "fault-injection"]
    subprocess.run(command, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "rust" / "target")
    return Path(shutil.copy(target / "release" / "vllm-rs", tmp_path_factory.mktemp("binary")))


@pytest.fixture(scope="module")
def running(binary: Path, tiny_model: Path) -> Iterator[tuple[Deployment, Double]]:
    raise_descriptor_limit()
    with deployment(tiny_model, 1, binary=binary) as frontend:
        double = frontend.double(0, 1, "--max-batch", "1000", "--step-ms", "20")
        frontend.wait_healthy()
        yield frontend, double


def test_a_panic_costs_its_request_and_no_other(running: tuple[Deployment, Double]) -> None:
    frontend, double = running
    with Crowd(frontend.port, OTHERS, 0) as crowd:
        crowd.wait_started()
        body = {"prompt": "x", "max_tokens": 2}
        answer = frontend.post(
            "/v1/completions", body, headers={"X-Request-Id": "panic-in-handler"}
        )
        assert answer.status_code == 500
        assert answer.json()["error"]["type"] == "server_error"
        assert "panic" not in answer.json()["error"]["message"]
        with one(frontend.port, 0, request_id="panic-in-stream") as victim:
            victim.wait_ended()
            assert victim.streams[0].status == 200
            assert victim.streams[0].error()["type"] == "server_error"
        assert frontend.status("/health") == 200
        double.finish()
        crowd.check()
    assert frontend.process.poll() is None, frontend.log
    assert double.is_idle()
