# SPDX-License-Identifier: Apache-2.0
"""What the operators' guides name is there: flags, variables, routes, metrics, codes, other pages.

The reference pages are compared with the tables they come from elsewhere (`tests/e2e`).
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vllm.config.flags import SERVED
from vllm.envs import VARIABLES
from vllm.errors import ExitCode

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
GUIDES = [DOCS / "guides" / f"{name}.md" for name in ("serving", "security", "operations")]
PAGES = [ROOT / "README.md", *GUIDES]
FLAGS = (DOCS / "reference" / "flags.md").read_text().partition("## Known flags")[0]
ROUTES = (DOCS / "reference" / "http-api.md").read_text()
METRICS = (ROOT / "rust" / "src" / "metrics" / "src" / "expose.rs").read_text()
OTHER_PROGRAMS = {"--cacert"}


@pytest.fixture(params=PAGES, ids=lambda page: page.name)
def text(request: pytest.FixtureRequest) -> str:
    return request.param.read_text()


def test_flags_exist(text: str) -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text)) - OTHER_PROGRAMS
    assert {flag for flag in named if f"`{flag}`" not in FLAGS} == set()


def test_variables_exist(text: str) -> None:
    assert set(re.findall(r"\b(?:VLLM_|RUST_)[A-Z_]+", text)) <= set(VARIABLES)


def test_routes_exist(text: str) -> None:
    for route in re.findall(r"`(?:GET |POST )?(/[a-z0-9_/.]+)`", text):
        assert f" {route}`" in ROUTES, route


def test_metrics_exist(text: str) -> None:
    for name in re.findall(r"\b(?:vllm:|http_)[a-z_]+", text):
        family = re.sub("_(bucket|sum|count)$", "", name)
        assert f'"{family}"' in METRICS, name


def test_links_lead_somewhere() -> None:
    for page in GUIDES:
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            assert file.is_file(), target
            heads = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w-]", "", head.lower().replace(" ", "-")) for head in heads}
            assert not anchor or anchor in anchors, target


def test_every_exit_code_is_explained() -> None:
    table = (DOCS / "guides" / "operations.md").read_text()
    rows = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert rows == {int(code) for code in ExitCode}


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("engine-restarts", "`--engine-restarts` times ({:g})"),
        ("engine-silence-timeout", "`--engine-silence-timeout` ({:g} s)"),
        ("engine-prompt-timeout", "`--engine-prompt-timeout` ({:g} s)"),
    ],
)
def test_defaults_are_the_tables(flag: str, words: str) -> None:
    default = next(row.default for row in SERVED if row.name == flag)
    assert words.format(default) in (DOCS / "guides" / "operations.md").read_text()


def test_variables_of_the_rust_frontend_are_declared() -> None:
    for path in (ROOT / "rust" / "src" / "cmd" / "src").glob("*.rs"):
        read = set(re.findall(r"\"((?:VLLM|RUST)_[A-Z_]+)\"", path.read_text()))
        assert read <= set(VARIABLES), path
