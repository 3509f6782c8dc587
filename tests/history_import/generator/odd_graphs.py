# SPDX-License-Identifier: Apache-2.0
"""Sources whose shape is the difficulty: merges, several roots, renames, empty commits, tags.

Owns only these stories.
"""

from .objects import Workshop
from .story import ADA, BEN, Story, text


def merges(story: Story) -> None:
    """A clean merge, two lines merged crosswise, one resolved by hand, an 'ours' merge."""
    story.put(b"a.txt", text("a", 12))
    story.put(b"b.txt", text("b", 12))
    base, files = story.commit(b"base\n"), dict(story.files)
    story.put(b"a.txt", text("a", 12, changed=2))
    left = story.commit(b"left\n")
    story.at(base, files)
    story.put(b"b.txt", text("b", 12, changed=5))
    right = story.commit(b"right\n", author=BEN)
    story.put(b"a.txt", text("a", 12, changed=2))
    straight = story.commit(b"Merge branch 'right'\n", parents=[left, right])
    crosswise = story.commit(b"Merge branch 'left', crosswise\n", parents=[right, left])
    story.put(b"a.txt", text("a", 13, changed=3))
    last = story.commit(b"both merges, resolved by hand\n", parents=[straight, crosswise])
    files = dict(story.files)
    story.put(b"b.txt", text("b", 12, changed=9))
    side = story.commit(b"side\n", author=BEN)
    story.at(last, files)
    story.commit(b"ours: nothing of the side\n", parents=[last, side])
    story.put(b"c.txt", text("c", 3))
    story.commit(b"after the merges\n")


def three_roots(story: Story) -> None:
    """Three parentless lines with the same file name among them, joined one after another."""
    tips = []
    for name in (b"one", b"two", b"three"):
        story.files, story.head = {}, []
        story.put(name + b"/file.txt", text(name.decode(), 5))
        story.commit(b"root of " + name + b"\n", parents=[])
        story.put(name + b"/file.txt", text(name.decode(), 5, changed=1))
        tips.append(story.commit(b"second of " + name + b"\n"))
    for name in (b"one", b"two", b"three"):
        story.put(name + b"/file.txt", text(name.decode(), 5, changed=1))
    story.commit(b"join two\n", parents=tips[:2])
    story.commit(b"join three\n", parents=[story.head[0], tips[2]])


def octopus(story: Story) -> None:
    """Five parents in one merge, and the same parents in another order in the next."""
    story.put(b"core.txt", text("core", 4))
    base, files = story.commit(b"base\n"), dict(story.files)
    arms = []
    for n in range(5):
        story.at(base, files)
        story.put(b"arm%d.txt" % n, text(f"arm{n}", 4))
        arms.append(story.commit(b"arm %d\n" % n))
    for n in range(5):
        story.put(b"arm%d.txt" % n, text(f"arm{n}", 4))
    story.commit(b"octopus\n", parents=arms)
    story.commit(b"octopus again\n", parents=[story.head[0], *reversed(arms)])


def renames(story: Story) -> None:
    """A file moved as it is, one moved and edited, a whole folder moved, one moved back."""
    for n in range(4):
        story.put(b"old/file%d.rs" % n, text(f"file{n}", 30))
    story.commit(b"base\n")
    story.move(b"old/file0.rs", b"new/file0.rs")
    story.commit(b"move as it is\n")
    story.move(b"old/file1.rs", b"new/first.rs")
    story.put(b"new/first.rs", text("file1", 30, changed=7))
    story.commit(b"move and edit\n", author=BEN)
    for path in [path for path in story.files if path.startswith(b"old/")]:
        story.move(path, path.replace(b"old/", b"crates/deep/"))
    story.commit(b"move the folder\n")
    story.move(b"new/file0.rs", b"old/file0.rs")
    story.commit(b"move back\n")


def empty_commits(story: Story) -> None:
    """An empty root, commits without changes, a merge of its own ancestor, an emptied tree."""
    root = story.commit(b"empty root\n")
    story.put(b"a.txt", b"a\n")
    story.commit(b"a file\n")
    story.commit(b"nothing changes\n")
    story.commit(b"nothing changes\n", author=BEN)
    story.commit(b"merges its own ancestor\n", parents=[story.head[0], root])
    files, story.files = story.files, {}
    story.commit(b"everything goes\n")
    story.files = files
    story.commit(b"everything comes back\n")


def tags(story: Story) -> None:
    """An annotated tag, a light one, and one on a commit outside main."""
    story.put(b"a.txt", b"1\n")
    first = story.commit(b"one\n")
    story.put(b"a.txt", b"2\n")
    story.commit(b"two\n")
    files, last = dict(story.files), story.head[0]
    story.put(b"stray.txt", b"never on main\n")
    stray = story.commit(b"stray\n")
    story.at(last, files)
    story.refs["refs/tags/v1"] = annotated(story.workshop, first)
    story.refs["refs/tags/light"] = last
    story.refs["refs/tags/stray"] = stray


def annotated(workshop: Workshop, commit: str) -> str:
    head = b"object %s\ntype commit\ntag v1\ntagger %s 1773400000 +0000\n" % (commit.encode(), ADA)
    return workshop.add(b"tag", head + b"\nversion one\n")
