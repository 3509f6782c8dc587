# SPDX-License-Identifier: Apache-2.0
"""The named sources: each has one property that an import must survive or must refuse by name.

Owns the table of kinds. A kind's story is one function; large ones have files of their own.
"""

from collections.abc import Callable
from pathlib import Path

from . import odd_bytes, odd_graphs, profile, scale, words
from .objects import run_git
from .story import BEN, Story, text
from .stream import sha256_source

Tell = Callable[[Story], None]


def plain(story: Story) -> None:
    """Twelve linear commits by two people, a licence, a nested folder, one deletion."""
    story.put(b"README.md", b"# A frontend\n")
    story.commit(b"feat: first light\n")
    story.put(b"LICENSE", text("licence", 20))
    story.commit(b"docs: a licence\n\nSigned-off-by: Ada Example <ada@example.org>\n")
    for n in range(1, 10):
        story.put(b"src/chat/part%d.rs" % (n % 4), text(f"part{n % 4}", 12 + n, changed=n))
        story.put(b"src/lib.rs", text("lib", 8 + n, changed=n))
        story.commit(
            b"fix: part %d\n" % n, author=BEN if n % 3 == 0 else b"Ada Example <ada@example.org>"
        )
    del story.files[b"src/chat/part0.rs"]
    story.put(b".github/workflows/ci.yml", b"on: push\n")
    story.commit(b"refactor: one part less\n")


TELLERS: dict[str, Tell] = {
    "plain": plain,
    "merges": odd_graphs.merges,
    "three_roots": odd_graphs.three_roots,
    "octopus": odd_graphs.octopus,
    "renames": odd_graphs.renames,
    "empty_commits": odd_graphs.empty_commits,
    "tags": odd_graphs.tags,
    "crlf_and_empty": words.crlf_and_empty,
    "latin1": words.latin1,
    "references": words.references,
    "ignore_revs": words.ignore_revs,
    "odd_zone": odd_bytes.odd_zone,
    "no_author_name": odd_bytes.no_author_name,
    "signatures": odd_bytes.signatures,
    "change_id": odd_bytes.change_id,
    "symlinks": odd_bytes.symlinks,
    "executable": odd_bytes.executable,
    "mode_100664": odd_bytes.mode_100664,
    "gitlink": odd_bytes.gitlink,
    "nested_prefix": odd_bytes.nested_prefix,
    "host_names": odd_bytes.host_names,
    "odd_names": odd_bytes.odd_names,
    "profile": profile.tell,
}
# Made by fast-import: a repository of another object format, and one too large to be told.
STREAMED: dict[str, Callable[[Path], Path]] = {"sha256": sha256_source, "scale": scale.source}
SOURCES = (*TELLERS, *STREAMED)
# Neither slow to make nor refused: what a test of every engine and verb can run over.
QUICK_SOURCES = tuple(kind for kind in TELLERS if kind not in {"profile", "gitlink"})


def make_source(kind: str, folder: Path) -> Path:
    """A bare repository of the named kind at ``folder``, which must not exist; on branch main."""
    if kind in STREAMED:
        return STREAMED[kind](folder)
    if kind not in TELLERS:
        raise ValueError(f"no source is called {kind!r}; there are {', '.join(SOURCES)}")
    story = Story()
    TELLERS[kind](story)
    made = story.source(folder)
    if kind == "profile":  # as a clone would have it: deltas, one pack
        run_git(made, "repack", "-a", "-d", "-q")
    return made
