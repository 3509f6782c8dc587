# SPDX-License-Identifier: Apache-2.0
"""The TOML of an import: every key, its default, and the line that names what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.history_import import config
from tools.history_import.errors import Refused

PIN = "a" * 40
SMALL = f"""
name = "lib"
[source]
url = "/somewhere/lib"
ref = "refs/heads/main"
pin = "{PIN}"
[target]
prefix = "third/lib"
base = "main"
branch = "import/lib"
"""


def parse(text: str) -> config.Config:
    return config.parse(text.encode(), "lib.toml")


def test_defaults_are_the_careful_ones() -> None:
    parsed = parse(SMALL)
    assert parsed.target.layout == "merge"
    assert parsed.engine.use == "both"
    assert parsed.keep.originals
    assert not parsed.messages.qualify and not parsed.messages.translate_hashes
    assert parsed.target.detached == () and not parsed.target.replaces_submodule


def test_digest_ignores_comments_order_and_explicit_defaults() -> None:
    same = "# a remark\n" + SMALL + '[engine]\nuse = "both"\n'
    assert parse(SMALL).digest == parse(same).digest
    assert parse(SMALL).digest != parse(SMALL.replace("third/lib", "third/lab")).digest


def test_the_ready_configuration_is_valid() -> None:
    path = Path(config.__file__).parent / "rust-frontend.toml"
    ready = config.load(path)
    assert ready.source.pin == "e70039679264223b931016e6604cbe10af39bd54"
    assert ready.target.prefix == "rust" and ready.path == path


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "lib"', 'name = "lib"\ncolour = 1', "unknown key colour"),
        ("[target]", "[target]\nsquash = true", "unknown key target.squash"),
        ("[target]", "[extra]\na = 1\n[target]", "unknown key extra"),
        ("[target]", '[target]\nlayout = "squash"', "one of: merge, linear"),
        (PIN, "a" * 39, "source.pin is"),
        (f'pin = "{PIN}"', "", "source.pin is missing"),
        ("refs/heads/main", "main", "source.ref is 'main'"),
        ("third/lib", "../lib", "target.prefix is '../lib'"),
        ("third/lib", "/lib", "target.prefix is '/lib'"),
        ("third/lib", "a/.GIT/b", "target.prefix"),
        ('branch = "import/lib"', 'branch = "main"', "must differ"),
        ('branch = "import/lib"', 'branch = "a..b"', "target.branch is 'a..b'"),
        ('branch = "import/lib"', 'branch = "HEAD"', "target.branch is 'HEAD'"),
        ('base = "main"', 'base = "@"', "target.base is '@'"),
        ("third/lib", "a\\nb", "target.prefix is 'a\\nb'"),
        ("third/lib", "a:b", "target.prefix is 'a:b'"),
        ("[target]", "[target]\nignore_revs = '../../x'", "target.ignore_revs is '../../x'"),
        ("[target]", "[target]\nignore_revs = '/x'", "target.ignore_revs is '/x'"),
        ("/somewhere/lib", "--upload-pack=x", "source.url"),
        ("[target]", "[messages]\nqualify = 'lib'\n[target]", "OWNER/REPO"),
        ("[target]", "[keep]\noriginals = 1\n[target]", "keep.originals is 1"),
        ("[target]", "[target]\ndetached = [1]", "a list of strings"),
        ('name = "lib"', "name = ", "is not TOML"),
        ('name = "lib"', 'name = "lib"\nschema = 2', "reads schema 1"),
        ('name = "lib"', 'name = "a/b"', "name is 'a/b'"),
        ('name = "lib"', 'name = "a.lock"', "name is 'a.lock'"),
        ('name = "lib"', 'name = "a..b"', "name is 'a..b'"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, said: str) -> None:
    assert old in SMALL
    with pytest.raises(Refused, match=r"lib\.toml") as refused:
        parse(SMALL.replace(old, new))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_unpinned_source_says_how_to_find_the_pin() -> None:
    with pytest.raises(Refused, match="git ls-remote /somewhere/lib refs/heads/main"):
        parse(SMALL.replace(PIN, "main"))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="cannot read"):
        config.load(tmp_path / "none.toml")
