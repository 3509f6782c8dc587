# SPDX-License-Identifier: Apache-2.0
"""Models and servers for the end-to-end tests. Everything listens on loopback and is stopped."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.server import ROOT, Server

TINY_CONTEXT = 65536


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama directory with random weights and room for long answers."""
    from tests.models import make_llama  # noqa: PLC0415 (imports torch)

    folder = tmp_path_factory.mktemp("models") / "tiny"
    return make_llama(folder, max_position_embeddings=TINY_CONTEXT)


@pytest.fixture(scope="session", autouse=True)
def kernels() -> None:
    """The engine needs the compiled CPU kernels."""
    folder = Path(os.environ.get("VLLM_KERNEL_DIR", ROOT / "vllm"))
    assert (folder / "_C_cpu.so").exists(), f"no kernels in {folder}: run nox -s build"


def rust_frontend() -> Path | None:
    """The built binary: VLLM_RUST_FRONTEND_PATH, else the one in the package."""
    named = os.environ.get("VLLM_RUST_FRONTEND_PATH", "auto")
    path = ROOT / "vllm" / "vllm-rs" if named == "auto" else Path(named)
    return path if path.exists() else None


RUST_MISSING = "the Rust frontend is not built (VLLM_BUILD_RUST=0, or no ./build_rust.sh yet)"


@pytest.fixture(params=["python", "rust"])
def frontend(request: pytest.FixtureRequest) -> dict[str, str]:
    """Environment that chooses a frontend."""
    return frontend_environment(request.param)


def frontend_environment(kind: str) -> dict[str, str]:
    """Environment that makes `vllm serve` use the Python or the Rust frontend."""
    if kind == "python":
        return {"VLLM_USE_RUST_FRONTEND": "0"}
    path = rust_frontend()
    if path is None:
        pytest.skip(RUST_MISSING)
    return {"VLLM_USE_RUST_FRONTEND": "1", "VLLM_RUST_FRONTEND_PATH": str(path)}


Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(*arguments, **environment)` runs `vllm serve`; everything is ended afterwards."""
    servers: list[Server] = []

    def begin(*arguments: object, **environ: str) -> Server:
        folder = tmp_path / f"server-{len(servers)}"
        folder.mkdir()
        servers.append(Server(folder, [str(word) for word in arguments], **environ))
        return servers[-1]

    yield begin
    for server in servers:
        server.close()
