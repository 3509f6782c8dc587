# SPDX-License-Identifier: Apache-2.0
"""The source of the mutation test: few commits, and every property that can be broken.

Owns this story. It must not know which mutations there are.
"""

from __future__ import annotations

from pathlib import Path

from .generator.odd_bytes import SSH
from .generator.story import ADA, BEN, FORGE, Story, text

LINEAR = "linear"


def tell(folder: Path, shape: str = "merges") -> Path:
    """`shape` linear: the same without the side line."""
    story = Story()
    story.put(b"code.rs", text("code", 20))
    story.put(b"run.sh", b"#!/bin/sh\n", b"100755")
    story.put(b"LICENSE", text("licence", 5))
    story.commit(b"base\n")
    story.put(b"code.rs", text("code", 20, changed=4))
    forked = story.commit(b"number (#12)", committer=FORGE, headers=[(b"gpgsig", SSH)])
    files = dict(story.files)
    story.put(b"code.rs", text("code", 21, changed=4))
    main = story.commit(b"keyword\n\nCloses #171\n\nSigned-off-by: Ada Example <ada@example.org>\n")
    if shape != LINEAR:
        merged = dict(story.files)
        story.at(forked, files)
        story.put(b"side.txt", text("side", 6))
        side = story.commit(
            "Grüße\n".encode("latin-1"), author=BEN, headers=[(b"encoding", b"ISO-8859-1")]
        )
        story.files = {**merged, b"side.txt": story.files[b"side.txt"]}
        story.commit(b"merge\n", parents=[main, side])
    story.put(b"docs/page.md", text("page", 4))
    story.commit(
        b"reverts " + forked[:10].encode() + b"\n", headers=[(b"change-id", b"kntqzsqtnspx")]
    )
    fork, files = story.head[0], dict(story.files)
    story.put(b".git-blame-ignore-revs", main.encode() + b"\n")
    story.commit(b"list\n", zone=b"+0530", author=BEN, committer=ADA)
    story.put(b"docs/page.md", text("page", 4, changed=2))
    last = story.commit(b"last\n")
    files, story.files = dict(story.files), files
    story.at(fork, story.files)
    story.put(b"forced.txt", b"forced\n")
    story.refs["refs/heads/forced"] = story.commit(b"forced\n")
    story.at(last, files)
    story.put(b"later.txt", text("later", 3))
    story.refs["refs/heads/later"] = story.commit(b"later\n")
    story.at(last, files)
    del story.files[b"LICENSE"]
    story.refs["refs/heads/unlicensed"] = story.commit(b"unlicensed\n")
    story.at(last, files)
    return story.source(folder)
