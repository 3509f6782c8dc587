# SPDX-License-Identifier: Apache-2.0
"""A source with the numbers of the first real one: 275 signed commits, 269 files, 70,396 lines.

Owns these numbers and how they are reached. Content comes from one seeded generator.
"""

import random

from .odd_bytes import PGP, SSH
from .story import FORGE, Story

COMMITS = 275
FILES = 269
LINES = 70_396
FIRST_FILES = 34
LICENCE_AT = 237
REFORMATTED_AT = 256
MERGED_BY_FORGE = 175
MAIN = b"Bea Major <bea@example.org>"
SECOND = b"Nick Minor <nick@example.net>"
OTHERS = {
    50: b"Third Person <third@example.com>",
    120: b"Fourth <123+fourth@users.noreply.forge.example>",
    200: b"Fifth Person <fifth@example.com>",
}
FOLDERS = (
    b"src/server",
    b"src/chat/parsers",
    b"src/chat/renderer",
    b"src/tokenizer",
    b"src/client",
    b"tests",
)
LOCK = b"Cargo.lock"


class Profile:
    """One project's life; the random generator decides content and places, never counts."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.random = random.Random(275)
        self.born = 0
        self.pull = 0

    def lines(self, count: int) -> list[bytes]:
        draw = self.random.getrandbits
        return [
            b"    let v%05x = call_%04x(%d);" % (draw(20), draw(16), draw(12)) for _ in range(count)
        ]

    def create(self) -> None:
        folder = FOLDERS[self.born % len(FOLDERS)]
        self.write(
            b"%b/part%03d.rs" % (folder, self.born), self.lines(self.random.randrange(90, 350))
        )
        self.born += 1

    def read(self, path: bytes) -> list[bytes]:
        return self.story.files[path][1].split(b"\n")[:-1]

    def write(self, path: bytes, lines: list[bytes]) -> None:
        self.story.put(path, b"\n".join(lines) + b"\n")

    def edit(self, path: bytes) -> None:
        """Replaces, adds and removes a few lines in one place, as a person does."""
        lines = self.read(path)
        at = self.random.randrange(len(lines))
        lines[at : at + self.random.randrange(4)] = self.lines(self.random.randrange(1, 9))
        self.write(path, lines)

    def rename(self, path: bytes) -> None:
        folder, _, name = path.rpartition(b"/")
        moved = (
            FOLDERS[(FOLDERS.index(folder) + 1) % len(FOLDERS)] if folder in FOLDERS else FOLDERS[0]
        )
        self.story.move(path, moved + b"/" + name)

    def sources(self) -> list[bytes]:
        return [path for path in self.story.files if path.endswith(b".rs")]


def tell(story: Story) -> None:
    life = Profile(story)
    reformatting = ""
    for number in range(1, COMMITS + 1):
        step(life, number)
        if number == REFORMATTED_AT + 1:
            story.put(
                b".git-blame-ignore-revs", b"# the reformatting\n" + reformatting.encode() + b"\n"
            )
        if number == COMMITS:
            finish(life)
        oid = commit(life, number)
        if number == REFORMATTED_AT:
            reformatting = oid


def step(life: Profile, number: int) -> None:
    if number == 1:
        begin(life)
        return
    if number == LICENCE_AT:
        life.write(b"LICENSE", life.lines(201))
        life.write(b"DCO", life.lines(37))
    if number == REFORMATTED_AT:
        reformat(life)
        return
    if wanted(number) > len(life.story.files):
        life.create()
    for path in life.random.sample(life.sources(), 7):
        life.edit(path)
    if number % 4 == 0:
        life.edit(LOCK)
    if number % 5 == 0:
        for path in life.random.sample(life.sources(), 3):
            life.rename(path)


def begin(life: Profile) -> None:
    for name in (
        b"README.md",
        b".gitignore",
        b".gitattributes",
        b"Cargo.toml",
        b"rustfmt.toml",
        b".github/workflows/ci.yml",
    ):
        life.write(name, life.lines(12))
    life.write(LOCK, life.lines(3600))
    life.story.put(b"scripts/check.sh", b"#!/bin/sh\nset -e\ncargo test\n", b"100755")
    for _ in range(FIRST_FILES):
        life.create()


def wanted(number: int) -> int:
    """Files after commit ``number``; three come with the licence and the ignored revisions."""
    first = FIRST_FILES + 8
    return first + (FILES - 3 - first) * number // (COMMITS - 2)


def reformat(life: Profile) -> None:
    """A style change over many files, the one that blame should look through."""
    for path in life.sources()[::3]:
        life.write(
            path,
            [
                line.replace(b"(", b"( ") if n % 5 == 0 else line
                for n, line in enumerate(life.read(path))
            ],
        )


def finish(life: Profile) -> None:
    while len(life.story.files) < FILES:
        life.create()
    missing = LINES - sum(data.count(b"\n") for _mode, data in life.story.files.values())
    if missing < 0:
        raise AssertionError(f"{-missing} lines too many: draw shorter files")
    share, rest = divmod(missing, 40)
    for n, path in enumerate(life.sources()[:40]):
        life.write(path, life.read(path) + life.lines(share + (n < rest)))


def commit(life: Profile, number: int) -> str:
    by_forge = number * MERGED_BY_FORGE // COMMITS > (number - 1) * MERGED_BY_FORGE // COMMITS
    second = number % 15 in {2, 7} and number not in OTHERS and number <= 270
    author = OTHERS.get(number, SECOND if second else MAIN)
    signature = PGP if by_forge else SSH
    return life.story.commit(
        message(life, number, by_forge, author),
        author=author,
        committer=FORGE if by_forge else MAIN,
        zone=b"-0700" if second else b"+0530" if number == 50 else b"+0800",
        headers=[(b"gpgsig", signature)],
    )


def message(life: Profile, number: int, by_forge: bool, author: bytes) -> bytes:
    kind = (b"feat", b"fix", b"refactor", b"test")[number % 4]
    subject = b"%b(part): step %d of the work" % (kind, number)
    if not by_forge:
        return subject + b"\n"
    life.pull += 1
    body = b"\n\nWhy step %d is needed.\npid=4172669" % number if number == 100 else b""
    if number * 125 // 175 > (number - 1) * 125 // 175 and author == MAIN:
        body += b"\n\nSigned-off-by: " + MAIN
    return subject + b" (#%d)" % life.pull + body
