# SPDX-License-Identifier: Apache-2.0
"""The tool away from this repository: another package name, the console script, its promises."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tools import history_import

from . import kit
from .generator import git, tip, write_config

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(history_import.__file__).parent


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def test_it_works_under_its_own_name(tmp_path: Path) -> None:
    """As installed from its pyproject.toml, engines in processes of their own included."""
    shutil.copytree(PACKAGE, tmp_path / "history_import")
    case = kit.case(tmp_path)
    program = "import sys; from history_import.cli import main; sys.exit(main())"
    words = [sys.executable, "-c", program, "import", str(case.config), "--host", str(case.host)]
    environ = os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(words, env=environ, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"next    git push" in done.stdout


def test_everything_is_packaged() -> None:
    settings = tomllib.loads((PACKAGE / "pyproject.toml").read_text())
    folders = settings["tool"]["setuptools"]["package-dir"]
    held = {(PACKAGE / folder).resolve() for folder in folders.values()}
    assert {path.parent for path in modules()} == held
    assert settings["project"]["dependencies"] == ["git-filter-repo==2.47.0"]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_are_relative_or_standard(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        for name in names:
            top = name.partition(".")[0]
            assert top in sys.stdlib_module_names or top == "git_filter_repo", name


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_pushes_or_forces(path: Path) -> None:
    """No list of arguments has these words; texts for people may."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert node.value not in {"push", "--force", "--mirror", "reset", "--hard"}


def test_this_repository_s_own_history(tmp_path: Path) -> None:
    """The real case: merges or not, whatever its messages say, every line and file proved."""
    if git(ROOT, "rev-parse", "--is-shallow-repository") == "true":
        pytest.skip("a shallow clone has no history to import")
    source = tmp_path / "source.git"
    git(tmp_path, "init", "--quiet", "--bare", str(source))
    git(source, "fetch", "--quiet", str(ROOT), "HEAD:refs/heads/main")
    host = kit.host("plain", tmp_path / "host")
    config = write_config(
        host, source, target__prefix="vendor/server", messages__qualify="upstream/server"
    )
    case = kit.Case(host, source, config)
    planned = case.run("plan", "--json")
    assert planned.code == 0, planned.err
    ran = case.run("import")
    assert ran.code == 0, ran.err
    made = case.git("rev-parse", "refs/imports/frontend/tip")
    assert made == planned.data["result"]["tip"]
    count = git(source, "rev-list", "--count", "main")
    assert f"proof   {int(count):,}/{int(count):,} commits" in ran.out
    assert case.git("rev-parse", "import/frontend:vendor/server") == git(
        source, "rev-parse", f"{tip(source)}^{{tree}}"
    )
