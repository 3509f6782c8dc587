# SPDX-License-Identifier: Apache-2.0
"""The build's own decisions: switches, versions, missing tools, stale binaries, counting."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools import build_csrc, build_rust
from tools.dev import check_crates, check_headers, toolchain
from tools.dev.counts import Counts
from vllm import version
from vllm.cli import rust_sources

ROOT = Path(__file__).resolve().parent.parent.parent


def test_an_unknown_target_device_names_the_accepted_words(monkeypatch):
    monkeypatch.setenv("VLLM_TARGET_DEVICE", "tpu")
    with pytest.raises(SystemExit, match=r"'tpu'; accepted: auto, cpu, cuda, empty"):
        build_csrc.target_device()


def test_an_unknown_boolean_names_the_accepted_words(monkeypatch):
    monkeypatch.setenv("VLLM_BUILD_RUST", "maybe")
    with pytest.raises(SystemExit, match=r"VLLM_BUILD_RUST is 'maybe'; accepted: 1, true"):
        build_rust.wanted()


@pytest.mark.parametrize(("word", "expected"), [("0", False), ("OFF", False), ("Yes", True)])
def test_booleans_are_read_in_any_case(monkeypatch, word, expected):
    monkeypatch.setenv("VLLM_BUILD_RUST", word)
    assert build_rust.wanted() is expected


def fake_program(folder: Path, name: str, output: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{output}'\n")
    path.chmod(0o755)


def test_a_missing_cargo_is_one_line_with_version_and_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CARGO", raising=False)
    with pytest.raises(SystemExit, match=r"cargo was not found.*>= 1\.95.*VLLM_BUILD_RUST=0"):
        build_rust.require_cargo()


def test_an_old_cargo_is_refused_by_its_version(monkeypatch, tmp_path):
    fake_program(tmp_path, "cargo", "cargo 1.70.0 (ec8a8a0ca 2023-04-25)")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CARGO", raising=False)
    with pytest.raises(SystemExit, match=r"cargo 1\.70\.0.*>= 1\.95"):
        build_rust.require_cargo()


def test_a_missing_compiler_is_one_line_with_version_and_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    line = toolchain.missing_compiler()
    assert line is not None and "g++ >= 12" in line and "VLLM_TARGET_DEVICE=empty" in line


def test_the_nvcc_packages_match_torchs_cuda(tmp_path):
    (tmp_path / "torch").mkdir()
    text = tmp_path / "torch" / "version.py"
    text.write_text("from typing import Optional\ncuda: Optional[str] = '13.2'\n")
    assert toolchain.cuda_packages(tmp_path) == ["cuda-toolkit[nvcc,cudart,cccl,nvvm,crt]==13.2.*"]
    text.write_text("cuda: Optional[str] = None\n")
    assert toolchain.cuda_packages(tmp_path) == []


def test_an_edit_below_rust_makes_the_binary_stale(tmp_path):
    workspace, binary = tmp_path / "rust", tmp_path / "vllm-rs"
    source = workspace / "src" / "cmd" / "main.rs"
    source.parent.mkdir(parents=True)
    (workspace / "Cargo.toml").write_text("[workspace]\n")
    source.write_text("fn main() {}\n")
    binary.write_text("program")
    assert rust_sources.is_stale(binary, workspace)
    rust_sources.write_stamp(binary, rust_sources.fingerprint(workspace))
    assert not rust_sources.is_stale(binary, workspace)
    for folder in (workspace / "target", workspace / "fuzz" / "target"):
        folder.mkdir(parents=True)
        (folder / "made.rs").write_text("// an output is no source\n")
    assert not rust_sources.is_stale(binary, workspace)
    source.write_text("fn main() { }\n")
    assert rust_sources.is_stale(binary, workspace)


def test_an_installed_wheel_is_never_stale(tmp_path):
    assert not rust_sources.is_stale(tmp_path / "vllm-rs", tmp_path / "rust")


def test_the_version_begins_with_the_workspaces():
    assert version.release_of(version.__version__) == version.base_version()
    with pytest.raises(ValueError, match="'nightly' does not begin with"):
        version.release_of("nightly")


def test_counts_add_up_pytest_and_cargo_lines():
    counts = Counts()
    for line in [
        "test result: ok. 12 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished",
        "\x1b[32m========= 5 passed, 2 skipped in 0.31s =========\x1b[0m\n",
        "3 failed, 4 passed, 1 error in 2.00s (0:00:02)\n",
        "5 passed is what a log line says",
    ]:
        counts.read(line)
    assert str(counts) == "21 passed, 5 failed, 4 skipped"


def test_a_command_that_dies_without_a_closing_line_counts_as_failed():
    counts = Counts()
    counts.run("dies", [sys.executable, "-c", "raise SystemExit(3)"])
    assert (counts.failed, counts.broken) == (1, ["dies"])
    counts.check("lives", [sys.executable, "-c", "print('5 passed in 1s')"])
    assert (counts.passed, counts.failed) == (1, 1)


def test_crates_from_git_and_banned_crates_are_named():
    deny = {"bans": {"deny": [{"crate": "openssl-sys", "reason": "one TLS stack"}]}}
    lock = {
        "package": [
            {"name": "ours"},
            {"name": "serde", "source": "registry+index"},
            {"name": "forked", "source": "git+https://example.invalid/forked"},
            {"name": "openssl-sys", "source": "registry+index"},
        ]
    }
    lines = check_crates.problems(lock, deny)
    assert len(lines) == 2 and "forked comes from git+" in lines[0] and "banned" in lines[1]


def test_a_file_without_a_licence_line_is_named(tmp_path, capsys):
    bare = tmp_path / "bare.py"
    bare.write_text("print()\n")
    assert check_headers.main([str(bare), __file__]) == 1
    assert str(bare) in capsys.readouterr().out


def test_importing_the_package_does_not_import_torch():
    program = "import vllm, sys; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0
