# SPDX-License-Identifier: Apache-2.0
"""Verify's own rules, alone: messages, ancestry, trees, trailers, patterns, its imports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.history_import import verify
from tools.history_import.config import Messages
from tools.history_import.git import TreeEntry
from tools.history_import.verify import graph, host, joins, messages, revisions, trees
from tools.history_import.verify.attribution import parse_blame
from tools.history_import.verify.graph import Ancestry, History

ALL = Messages("o/r", defuse_closing_keywords=True, translate_hashes=True)
OLD, NEW = "ab12345" + "c" * 33, "99fedcba" + "0" * 32


def rewritten(text: bytes, rules: Messages = ALL) -> bytes:
    def ancestor(prefix: str) -> str | None:
        return OLD if OLD.startswith(prefix) else None

    found = messages.mentions(text, ancestor) if rules.translate_hashes else []
    return messages.rewritten(text, rules, found, {OLD: NEW}.__getitem__)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (b"a fix (#12)", b"a fix (o/r#12)"),
        (b"#1", b"o/r#1"),
        (b"\xc3\xa9#1", b"\xc3\xa9o/r#1"),
        (b"a#1 b/#2 &#3; ##4 -#5 _#6 #x #", b"a#1 b/#2 &#3; ##4 -#5 _#6 #x #"),
        (b"Closes #1", b"Closes upstream o/r#1"),
        (b"fixed:\t#1", b"fixed:\tupstream o/r#1"),
        (b"Fixes:#1", b"Fixes:upstream o/r#1"),
        (b"RESOLVE x/y#1", b"RESOLVE upstream x/y#1"),
        (
            b"closes https://github.com/x/y/pull/3",
            b"closes upstream https://github.com/x/y/pull/3",
        ),
        (b"closes https://example.org/x/y/pull/3", b"closes https://example.org/x/y/pull/3"),
        (b"disclose #1, fixings #2", b"disclose o/r#1, fixings o/r#2"),
        (b"closes\n#1", b"closes\no/r#1"),
        (b"see ab12345.", b"see 99fedcb."),
        (b"see " + OLD.encode(), b"see " + NEW.encode()),
        (b"see ab1234, AB12345, xab12345", b"see ab1234, AB12345, xab12345"),
        (b"/commit/ab12345 stays", b"/commit/ab12345 stays"),
        (b"ab12346 is nobody", b"ab12346 is nobody"),
        (b"no newline, no rule", b"no newline, no rule"),
        (b"", b""),
    ],
)
def test_a_message(text: bytes, wanted: bytes) -> None:
    assert rewritten(text) == wanted


def test_decimal_digits_alone_are_no_id_unless_there_are_forty() -> None:
    assert messages.mentions(b"pid=4172669", lambda prefix: OLD) == []
    assert messages.mentions(b"1" * 40, lambda prefix: OLD)[0].end == 40
    assert messages.mentions(b"1" * 41 + b"a", lambda prefix: OLD) == []


@given(st.binary(max_size=60))
def test_empty_switches_change_nothing(text: bytes) -> None:
    assert rewritten(text, Messages()) == text


PIECES = st.sampled_from(
    [
        b"#1",
        b"closes ",
        b"Fix: ",
        b"a",
        b" ",
        b"\n",
        b"/",
        b"-",
        b"(",
        b"o/r#2",
        b"\xff",
        b"ab12345",
    ]
)


@given(st.lists(PIECES, max_size=12).map(b"".join))
def test_what_was_rewritten_has_nothing_left_to_rewrite(text: bytes) -> None:
    done = rewritten(text)
    assert messages.bare_numbers(done) == []
    assert messages.closing_references(done) == []
    undone = done.replace(b"upstream ", b"").replace(b"o/r#", b"#")
    assert undone.replace(b"99fedcb", b"ab12345") == text.replace(b"o/r#", b"#")


def test_why_a_message_is_wrong() -> None:
    explain = messages.explain
    assert "bare number '#12'" in explain(b"o/r#12", b"#12", ALL)
    assert "closing keyword" in explain(b"", b"closes o/r#12", ALL)
    assert explain(b"a", b"a\n", ALL) == "a newline was added at the end"
    assert explain(b"a\n", b"a", ALL) == "the newline at the end is lost"
    assert explain(b"same then b", b"same then c", ALL).startswith("byte 10: ")
    assert explain(b"more", b"mor", ALL).startswith("byte 3: ")


RAW = (
    b"tree " + b"1" * 40 + b"\nparent " + b"2" * 40 + b"\nauthor A <a> 1 +0000\n"
    b"committer B <b> 2 +0000\ngpgsig one\n two\n \n three\nencoding x\n\nmessage\n\nbody"
)


@pytest.mark.parametrize(
    "raw", [RAW, RAW.partition(b"\n\n")[0] + b"\n\n", RAW.partition(b"\n\n")[0] + b"\n"]
)
def test_taking_apart_and_putting_together(raw: bytes) -> None:
    parts = graph.split(raw)
    assert graph.assemble(parts) == raw
    assert parts.header(b"gpgsig") == b"gpgsig one\n two\n \n three"
    assert parts.header(b"encoding") == b"encoding x"


@st.composite
def graphs(draw: st.DrawFn) -> list[list[int]]:
    """Parents of each commit, by number; parents come first."""
    size = draw(st.integers(1, 14))
    return [
        sorted(draw(st.sets(st.integers(0, n - 1), max_size=3)), reverse=draw(st.booleans()))
        if n
        else []
        for n in range(size)
    ]


def history(parents: list[list[int]]) -> History:
    names = [f"{n:040x}" for n in range(len(parents))]
    raw = {
        name: b"".join(b"parent %s\n" % names[p].encode() for p in over) + b"author\n\n"
        for name, over in zip(names, parents, strict=True)
    }
    return History(names, raw)


@given(graphs())
def test_ancestry_is_the_closure_of_parents(parents: list[list[int]]) -> None:
    made = Ancestry(history(parents))
    below: list[set[int]] = []
    for over in parents:
        below.append(set(over).union(*(below[p] for p in over)))
    for later in range(len(parents)):
        for earlier in range(len(parents)):
            names = f"{earlier:040x}", f"{later:040x}"
            assert made.is_ancestor(*names) == (earlier in below[later])


def test_an_abbreviation_counts_among_ancestors_only() -> None:
    one, two, three = "aaaa" + "0" * 36, "aaaa" + "1" * 36, "b" * 40
    raw = {
        one: b"author\n\n",
        two: b"author\n\n",
        three: b"parent %s\nauthor\n\n" % one.encode(),
    }
    made = Ancestry(History([one, two, three], raw))
    assert made.abbreviated("aaaa", three) == one
    assert made.abbreviated("aaaa", one) is None
    assert made.abbreviated("bbbb", three) is None  # a commit cannot name itself


class FewObjects:
    """Stands for git's reader: trees by id."""

    def __init__(self, *content: bytes) -> None:
        self.known = {graph.object_id(b"tree", data): data for data in content}

    def read(self, oid: str) -> tuple[bytes, bytes]:
        return b"tree", self.known[oid]


def row(mode: bytes, name: bytes, oid: str) -> bytes:
    return mode + b" " + name + b"\0" + bytes.fromhex(oid)


def test_a_root_is_the_prefix_and_what_the_host_has_around_it() -> None:
    inner = row(b"100644", b"x", "1" * 40)
    middle = row(b"40000", b"b", graph.object_id(b"tree", inner)) + row(b"100644", b"z", "2" * 40)
    root = row(b"40000", b"a", graph.object_id(b"tree", middle)) + row(b"100644", b"a.b", "3" * 40)
    known = trees.Trees(FewObjects(inner, middle, root))  # type: ignore[arg-type]
    base = graph.object_id(b"tree", root)
    around = trees.Roots(b"a/b", known, base)
    assert around.root(graph.object_id(b"tree", inner)) != base  # `a.b` sorts before `a/`
    assert trees.tree_id(known.entries(base)) == around.root(graph.object_id(b"tree", inner))
    without_b = row(b"100644", b"z", "2" * 40)
    without = row(b"100644", b"a.b", "3" * 40) + row(
        b"40000", b"a", graph.object_id(b"tree", without_b)
    )
    assert around.root(trees.EMPTY) == graph.object_id(b"tree", without)


def test_an_empty_source_tree_has_an_empty_root() -> None:
    assert trees.Roots(b"a/b").root(trees.EMPTY) == trees.EMPTY


def test_the_old_mode_is_normalised_at_every_depth() -> None:
    inner = row(b"100664", b"x", "1" * 40)
    root = row(b"40000", b"a", graph.object_id(b"tree", inner))
    known = trees.Trees(FewObjects(inner, root))  # type: ignore[arg-type]
    wanted = trees.tree_id([TreeEntry(b"100644", b"x", "1" * 40)])
    made = trees.Normalised(known).tree(graph.object_id(b"tree", root))
    assert made == trees.tree_id([TreeEntry(b"40000", b"a", wanted)])


def test_trailers_are_those_of_the_last_paragraph() -> None:
    said = b"s\n\nHistory-Import-Name: no\n\nHistory-Import-Name: x\nhistory-import-tip: y\n"
    assert joins.trailers(said) == {"Name": "x"}


@pytest.mark.parametrize(
    "text", [b"a\nHistory-Import-Name: x\n", b"* b\n\n    History-Import-Name: x\r\n"]
)
def test_a_squash_speaks_of_the_import_anywhere(text: bytes) -> None:
    assert joins.ANYWHERE.findall(text) == [b"x"]


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        (".github/**", b".github/workflows/ci.yml", True),
        ("*.md", b"a.md", True),
        ("*.md", b"docs/a.md", False),
        ("**/*.md", b"a.md", True),
        ("**/*.md", b"docs/deep/a.md", True),
        ("a?c", b"abc", True),
        ("a?c", b"a/c", False),
        ("a+b", b"aab", False),
    ],
)
def test_a_pattern(pattern: str, path: bytes, fits: bool) -> None:
    assert bool(host.glob(pattern).fullmatch(path)) == fits


def test_a_list_of_revisions() -> None:
    assert revisions.ids(b"# one\n\naaa  # two\n bbb\r\n") == ["aaa", "bbb"]


def test_blame_by_line_and_a_quoted_name() -> None:
    said = b"%s 3 1 2\nauthor A\nfilename rust/a\n%s 1 3 1\nfilename %s\n" % (
        b"a" * 40,
        b"b" * 40,
        rb'"rust/\303\274\n\"x\""',
    )
    assert parse_blame(said, len(b"rust/")) == [
        ("a" * 40, b"a", 3),
        ("a" * 40, b"a", 4),
        ("b" * 40, b'\xc3\xbc\n"x"', 1),
    ]


ALLOWED = {"config", "errors", "git", "progress"}


def test_verify_knows_nothing_of_the_writer() -> None:
    """Relative imports of one dot stay inside; two dots are the tool, and four names of it."""
    files = sorted(Path(verify.__file__).parent.glob("*.py"))
    assert len(files) > 10
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level >= 2:
                found = {alias.name for alias in node.names} if not node.module else {node.module}
                assert node.level == 2 and found <= ALLOWED, path.name
            elif isinstance(node, ast.ImportFrom | ast.Import):
                words = [alias.name for alias in node.names]
                words += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not any("history_import" in word for word in words), path.name
                assert "importlib" not in words, path.name
