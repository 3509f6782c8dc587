# SPDX-License-Identifier: Apache-2.0
"""What a source is made of: people, sign-offs, signatures, licence, sizes, and what is unusual.

Reads objects only and decides nothing; what is forbidden is in `checks`. Knows nothing of hosts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from . import messages, signoff, trees
from .closure import Closure
from .git import Commit, ObjectReader, Repository, parse_commit
from .progress import Progress
from .signoff import Unsigned

USUAL = {b"tree", b"parent", b"author", b"committer", b"encoding"}
SIGNATURES = {b"gpgsig", b"gpgsig-sha256", b"mergetag"}
LICENCE = re.compile(rb"(licen[cs]e|copying|unlicense)([.-].*)?", re.IGNORECASE)
LFS = b"version https://git-lfs.github.com/spec/"
LFS_SIZE = 1024
# What works only at a repository's root, and therefore sleeps below a prefix.
ROOT_ONLY = (
    b".github",
    b".gitlab-ci.yml",
    b".pre-commit-config.yaml",
    b".circleci",
    b".travis.yml",
)


@dataclass(frozen=True)
class Blobs:
    count: int
    largest: int
    largest_path: bytes
    lfs_pointers: tuple[bytes, ...]


@dataclass(frozen=True)
class Profile:
    commits: int
    roots: int
    merges: int
    authors: int
    recommitted: int  # the committer is somebody else than the author
    signatures: int
    extended: dict[str, str] = field(repr=False)  # header -> first commit that has it
    encodings: dict[str, int]
    no_final_newline: int
    digits_like_ids: list[str] = field(repr=False)  # "COMMIT TEXT", left as they are
    unsigned: list[Unsigned] = field(repr=False)
    unsigned_commits: int
    licence_since: int  # commit number in order, 0: the pinned tree has none
    files: int
    gitlinks: list[bytes]
    odd_modes: dict[str, int]
    folded: list[bytes] = field(repr=False)  # paths of the tip that differ only in case
    root_only: list[bytes]
    root_names: list[bytes] = field(repr=False)
    blobs: Blobs
    packed_bytes: int


@dataclass
class Counts:
    """What one pass over the commits finds."""

    roots: int = 0
    merges: int = 0
    recommitted: int = 0
    signatures: int = 0
    no_final_newline: int = 0
    authors: set[bytes] = field(default_factory=set)
    extended: dict[str, str] = field(default_factory=dict)
    encodings: Counter[str] = field(default_factory=Counter)

    def add(self, oid: str, commit: Commit) -> None:
        keys = [key for key, _ in commit.headers]
        parents = keys.count(b"parent")
        self.roots += parents == 0
        self.merges += parents > 1
        self.signatures += any(key in SIGNATURES for key in keys)
        self.no_final_newline += not commit.message.endswith(b"\n")
        self.authors.add(_who(commit.author))
        self.recommitted += _who(commit.author) != _who(commit.committer)
        if encoding := commit.header(b"encoding"):
            self.encodings[encoding.decode(errors="backslashreplace")] += 1
        for key in keys:
            if key not in USUAL and key not in SIGNATURES:
                self.extended.setdefault(key.decode(errors="backslashreplace"), oid)


def _who(line: bytes) -> bytes:
    return line.rpartition(b">")[0]


def read(source: Repository, closure: Closure) -> Profile:
    counts, parsed = Counts(), []
    with Progress("profile", len(closure)) as commits:
        for oid, data in zip(closure.oids, closure.raw, strict=True):
            commit = parse_commit(data)
            counts.add(oid, commit)
            parsed.append((oid, commit))
            commits.advance()
    unsigned = signoff.unsigned(parsed)
    root_trees = [commit.tree for _, commit in parsed]
    del parsed
    with source.objects() as objects:
        entries = tip_entries(source, closure.pin)
        modes = Counter(mode.decode() for mode, _ in entries)
        usual = {"100644", "100755", "120000", "160000"}
        return Profile(
            commits=len(closure),
            roots=counts.roots,
            merges=counts.merges,
            authors=len(counts.authors),
            recommitted=counts.recommitted,
            signatures=counts.signatures,
            extended=counts.extended,
            encodings=dict(counts.encodings),
            no_final_newline=counts.no_final_newline,
            digits_like_ids=digits_like_ids(closure),
            unsigned=unsigned,
            unsigned_commits=sum(len(person.commits) for person in unsigned),
            licence_since=licence_since(objects, root_trees),
            files=len(entries),
            gitlinks=[path for mode, path in entries if mode == b"160000"],
            odd_modes={mode: count for mode, count in modes.items() if mode not in usual},
            folded=folded(path for _, path in entries),
            root_only=_root_names(objects, root_trees[-1], ROOT_ONLY),
            root_names=_root_names(objects, root_trees[-1]),
            blobs=blobs(source, closure),
            packed_bytes=packed_bytes(source),
        )


def digits_like_ids(closure: Closure) -> list[str]:
    """Decimal numbers that happen to begin a commit's id: nobody meant a commit."""
    found = []
    for index, oid in enumerate(closure.oids):
        for text in messages.ids_in(closure.message(index)):
            if messages.only_digits(text) and closure.named(text, index):
                found.append(f"{oid} {text.decode()}")
    return found


def licence_since(objects: ObjectReader, root_trees: list[str]) -> int:
    """The number of the commit from which on, without a gap to the pin, there is a licence."""
    known: dict[str, bool] = {trees.EMPTY_TREE: False}
    for number in range(len(root_trees), 0, -1):
        tree = root_trees[number - 1]
        if tree not in known:
            known[tree] = any(LICENCE.fullmatch(e.name) for e in objects.tree(tree))
        if not known[tree]:
            return number + 1 if number < len(root_trees) else 0
    return 1


def tip_entries(source: Repository, pin: str) -> list[tuple[bytes, bytes]]:
    listed = source.git("ls-tree", "-r", "-z", "--full-tree", pin)
    lines = (line.partition(b"\t") for line in listed.split(b"\0") if line)
    return [(head.split(b" ")[0], path) for head, _, path in lines]


def folded(files: Iterable[bytes]) -> list[bytes]:
    """Paths, folders included, that a file system ignoring case cannot keep apart."""
    seen: dict[str, bytes] = {}
    collisions = []
    for path in sorted({part for file in files for part in _with_folders(file)}):
        key = path.decode("utf-8", "surrogateescape").casefold()
        if seen.setdefault(key, path) != path:
            collisions.append(path)
    return collisions


def _with_folders(path: bytes) -> list[bytes]:
    parts = path.split(b"/")
    return [b"/".join(parts[: n + 1]) for n in range(len(parts))]


def _root_names(objects: ObjectReader, tree: str, among: Iterable[bytes] = ()) -> list[bytes]:
    entries = [] if tree == trees.EMPTY_TREE else objects.tree(tree)
    return [entry.name for entry in entries if not among or entry.name in among]


def blobs(source: Repository, closure: Closure) -> Blobs:
    """Of all blobs the pinned commit's history has; small ones are looked into for LFS pointers."""
    paths = {}
    for line in source.git("rev-list", "--objects", closure.pin, "--").splitlines():
        oid, _, path = line.partition(b" ")
        paths[oid] = path
    asked = b"\n".join(paths) + b"\n"
    shape = "--batch-check=%(objecttype) %(objectsize) %(objectname)"
    answers = (line.split() for line in source.git("cat-file", shape, input=asked).splitlines())
    sizes = {oid: int(size) for kind, size, oid in answers if kind == b"blob"}
    largest = max(sizes, key=lambda oid: sizes[oid], default=b"")
    return Blobs(
        len(sizes), sizes.get(largest, 0), paths.get(largest, b""), _lfs(source, sizes, paths)
    )


def _lfs(
    source: Repository, sizes: dict[bytes, int], paths: dict[bytes, bytes]
) -> tuple[bytes, ...]:
    """A pointer needs attributes to be written, so without that word in any file there is none."""
    if not any(path.rpartition(b"/")[2] == b".gitattributes" for path in paths.values()):
        return ()
    small = [oid.decode() for oid, size in sizes.items() if len(LFS) < size < LFS_SIZE]
    with source.objects() as objects:
        found = [oid for oid, _, data in objects.read_many(small) if data.startswith(LFS)]
    return tuple(paths[oid.encode()] for oid in found)


def packed_bytes(source: Repository) -> int:
    counted = dict(line.split(": ", 1) for line in source.line("count-objects", "-v").splitlines())
    return 1024 * (int(counted["size-pack"]) + int(counted["size"]))
