# SPDX-License-Identifier: Apache-2.0
"""What a source is made of: people, sign-offs, signatures, licence, sizes, and what is unusual.

Reads objects only and decides nothing; what is forbidden is in `checks`. Knows nothing of hosts.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
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


def _counted(closure: Closure, counts: Counts, roots: list[str]) -> Iterator[tuple[str, Commit]]:
    """Each commit parsed once and let go: a hundred thousand of them at once are half a GB."""
    with Progress("profile", len(closure)) as commits:
        for oid, data in zip(closure.oids, closure.raw, strict=True):
            commit = parse_commit(data)
            counts.add(oid, commit)
            roots.append(commit.tree)
            commits.advance()
            yield oid, commit


def read(source: Repository, closure: Closure) -> Profile:
    counts, root_trees = Counts(), list[str]()
    unsigned = signoff.unsigned(_counted(closure, counts, root_trees))
    with source.objects() as objects:
        listed = tip_entries(source, closure.pin)
        entries = [(mode, path) for mode, _, path in listed]
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
            blobs=blobs(source, objects, listed),
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


def tip_entries(source: Repository, pin: str) -> list[tuple[bytes, str, bytes]]:
    """Mode, id and path of every file of the pinned commit."""
    listed = source.git("ls-tree", "-r", "-z", "--full-tree", pin)
    lines = (line.partition(b"\t") for line in listed.split(b"\0") if line)
    return [(head.split(b" ")[0], head[-40:].decode(), path) for head, _, path in lines]


def fold(name: bytes) -> str:
    """The same for names that a file system may hold to be one: case, and how accents are put."""
    text = name.decode("utf-8", "surrogateescape")
    return unicodedata.normalize("NFC", text).casefold()


def folded(files: Iterable[bytes]) -> list[bytes]:
    """Paths, folders included, that a file system ignoring case cannot keep apart."""
    seen: dict[str, bytes] = {}
    collisions = []
    for path in sorted({part for file in files for part in _with_folders(file)}):
        key = fold(path)
        if seen.setdefault(key, path) != path:
            collisions.append(path)
    return collisions


def _with_folders(path: bytes) -> list[bytes]:
    parts = path.split(b"/")
    return [b"/".join(parts[: n + 1]) for n in range(len(parts))]


def _root_names(objects: ObjectReader, tree: str, among: Iterable[bytes] = ()) -> list[bytes]:
    entries = [] if tree == trees.EMPTY_TREE else objects.tree(tree)
    return [entry.name for entry in entries if not among or entry.name in among]


def blobs(
    source: Repository, objects: ObjectReader, listed: list[tuple[bytes, str, bytes]]
) -> Blobs:
    """All that was fetched; walking the history for paths takes longer than all else here."""
    shape = "--batch-check=%(objecttype) %(objectsize) %(objectname)"
    answers = source.git("cat-file", "--batch-all-objects", "--unordered", "--buffer", shape)
    lines = (line.split() for line in answers.splitlines() if line.startswith(b"blob"))
    sizes = {oid.decode(): int(size) for _, size, oid in lines}
    largest = max(sizes, key=lambda oid: sizes[oid], default="")
    paths = {oid: path for _, oid, path in listed}
    path = paths.get(largest, f"blob {largest[:12]}, not at the pin".encode())
    return Blobs(len(sizes), sizes.get(largest, 0), path, _lfs(objects, sizes, paths))


def _lfs(
    objects: ObjectReader, sizes: dict[str, int], paths: dict[str, bytes]
) -> tuple[bytes, ...]:
    """At the pin: files whose content is elsewhere."""
    small = [oid for oid in paths if len(LFS) < sizes.get(oid, 0) < LFS_SIZE]
    found = [oid for oid, _, data in objects.read_many(small) if data.startswith(LFS)]
    return tuple(paths[oid] for oid in found)


def packed_bytes(source: Repository) -> int:
    counted = dict(line.split(": ", 1) for line in source.line("count-objects", "-v").splitlines())
    return 1024 * (int(counted["size-pack"]) + int(counted["size"]))
