# SPDX-License-Identifier: Apache-2.0
"""The git command line, in an environment of its own, and raw objects as bytes.

Owns how git is started and how an object is read. Knows nothing of imports. Paths, names and
messages are bytes everywhere; object ids are lower-case hexadecimal `str`.
"""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from .errors import GitFailed

# What this process was told about some other repository must not reach ours.
FOREIGN = {
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_CEILING_DIRECTORIES",
    "GIT_CONFIG",
    "GIT_REPLACE_REF_BASE",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CONFIG_COUNT",
    "GIT_SHALLOW_FILE",
    "GIT_QUARANTINE_PATH",
    "GIT_EXTERNAL_DIFF",
    "GIT_DIFF_OPTS",
    "GIT_LITERAL_PATHSPECS",
    "GIT_GLOB_PATHSPECS",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
}

# The commit graph is a cache that nothing proves; automatic maintenance would write behind us;
# a hook of the host may refuse or change things it was not written for.
SETTINGS = {
    "core.commitGraph": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "core.hooksPath": "/dev/null",
    "core.quotePath": "false",
    "core.fsmonitor": "false",
    # A transaction that a killed run left open is gone within moments.
    "core.filesRefLockTimeout": "5000",
    "advice.detachedHead": "false",
    "protocol.version": "2",
}

# Ids asked of `cat-file --batch` before reading the answers: 41 bytes each stay below the 64 KiB
# a pipe takes, so that neither side waits for the other.
ASK_AHEAD = 512


# Configuration handed down by variables, as CI does for credentials.
HANDED_DOWN = {"GIT_CONFIG", "GIT_CONFIG_PARAMETERS", "GIT_CONFIG_COUNT"}


def own_environment() -> dict[str, str]:
    """The user's environment without configuration and what points at another repository."""
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    return {
        k: v for k, v in kept.items() if not k.startswith(("GIT_CONFIG_KEY_", "GIT_CONFIG_VAL"))
    }


@functools.cache
def trusted_folders() -> tuple[str, ...]:
    """`safe.directory` of the user: whose repositories to trust is the user's decision."""
    ask = ["git", "config", "--get-all", "safe.directory"]
    done = subprocess.run(ask, capture_output=True, env=users_environment(), cwd="/", check=False)
    return tuple(os.fsdecode(done.stdout).splitlines())


def environment() -> dict[str, str]:
    """No user or system configuration, no replace refs, no grafts, no prompts, one language."""
    settings = [*SETTINGS.items(), *(("safe.directory", folder) for folder in trusted_folders())]
    numbered = {"GIT_CONFIG_COUNT": str(len(settings))}
    for index, (key, value) in enumerate(settings):
        numbered[f"GIT_CONFIG_KEY_{index}"] = key
        numbered[f"GIT_CONFIG_VALUE_{index}"] = value
    fixed = {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_NO_REPLACE_OBJECTS": "1",
        # No file at all: an existing one, even empty, makes every command warn.
        "GIT_GRAFT_FILE": os.devnull + "/none",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
        "LANGUAGE": "",
    }
    return own_environment() | numbered | fixed


def users_environment() -> dict[str, str]:
    """With the user's configuration: only for who the person is and how to reach the source.

    What is fetched this way is checked against the pinned id, so configuration cannot change it.
    """
    fixed = {"GIT_NO_REPLACE_OBJECTS": "1", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    elsewhere = FOREIGN - HANDED_DOWN
    return {k: v for k, v in os.environ.items() if k not in elsewhere} | fixed


@dataclass(frozen=True)
class TreeEntry:
    mode: bytes  # as stored: b"40000", b"100644", b"100664", b"160000", ...
    name: bytes
    oid: str

    @property
    def is_tree(self) -> bool:
        return self.mode == b"40000"

    @property
    def is_gitlink(self) -> bool:
        return self.mode == b"160000"


@dataclass(frozen=True)
class Commit:
    """Headers in their order; continuation lines keep their newline but not their space."""

    headers: list[tuple[bytes, bytes]]
    message: bytes

    def header(self, key: bytes) -> bytes | None:
        return next((value for name, value in self.headers if name == key), None)

    @property
    def tree(self) -> str:
        return (self.header(b"tree") or b"").decode("ascii")

    @property
    def parents(self) -> list[str]:
        return [value.decode("ascii") for name, value in self.headers if name == b"parent"]

    @property
    def author(self) -> bytes:
        return self.header(b"author") or b""

    @property
    def committer(self) -> bytes:
        return self.header(b"committer") or b""

    @property
    def subject(self) -> bytes:
        return self.message.lstrip(b"\n").split(b"\n", 1)[0]


def parse_commit(data: bytes) -> Commit:
    head, separator, message = data.partition(b"\n\n")
    if not separator:  # no message at all: the headers end with the object
        head = head.removesuffix(b"\n")
    headers: list[tuple[bytes, bytes]] = []
    for line in head.split(b"\n"):
        if line.startswith(b" ") and headers:
            key, value = headers[-1]
            headers[-1] = (key, value + b"\n" + line[1:])
        else:
            key, _, value = line.partition(b" ")
            headers.append((key, value))
    return Commit(headers, message)


def parse_tree(data: bytes, width: int = 20) -> list[TreeEntry]:
    entries, position = [], 0
    while position < len(data):
        space = data.index(b" ", position)
        null = data.index(b"\0", space)
        end = null + 1 + width
        oid = data[null + 1 : end].hex()
        entries.append(TreeEntry(data[position:space], data[space + 1 : null], oid))
        position = end
    return entries


class ObjectReader:
    """Objects by id through one `git cat-file --batch`."""

    def __init__(self, repository: Repository) -> None:
        command = ["git", "cat-file", "--batch"]
        self._process = subprocess.Popen(
            command,
            cwd=repository.path,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdin and self._process.stdout
        self._ask: IO[bytes] = self._process.stdin
        self._answer: IO[bytes] = self._process.stdout

    def __enter__(self) -> ObjectReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._ask.close()
        self._answer.close()
        self._process.wait()

    def read(self, name: str) -> tuple[bytes, bytes]:
        """Kind and content; `name` may be anything git can resolve, such as `ID:path`."""
        return next(self.read_many([name]))[1:]

    def commit(self, oid: str) -> Commit:
        kind, data = self.read(oid)
        if kind != b"commit":
            raise GitFailed(f"{oid} is a {kind.decode()}, not a commit")
        return parse_commit(data)

    def tree(self, oid: str) -> list[TreeEntry]:
        kind, data = self.read(oid)
        if kind != b"tree":
            raise GitFailed(f"{oid} is a {kind.decode()}, not a tree")
        return parse_tree(data)

    def read_many(self, names: Iterable[str]) -> Iterator[tuple[str, bytes, bytes]]:
        """(id, kind, content) of each, in order; asking ahead is what makes it fast."""
        waiting: list[str] = []
        for name in names:
            waiting.append(name)
            if len(waiting) == ASK_AHEAD:
                yield from self._exchange(waiting)
                waiting = []
        yield from self._exchange(waiting)

    def _exchange(self, names: list[str]) -> Iterator[tuple[str, bytes, bytes]]:
        try:
            self._ask.write("".join(f"{name}\n" for name in names).encode())
            self._ask.flush()
        except BrokenPipeError:
            raise GitFailed("git cat-file --batch ended early", "is this a repository?") from None
        for name in names:
            yield self._one(name)

    def _one(self, name: str) -> tuple[str, bytes, bytes]:
        line = self._answer.readline()
        words = line.split()
        if len(words) != 3:
            found = line.decode(errors="replace").strip() or "no answer"
            raise GitFailed(f"cannot read object {name}: {found}", "run git fsck there")
        data = self._answer.read(int(words[2]))
        self._answer.read(1)
        return words[0].decode(), words[1], data


class Repository:
    """One repository, bare or not; `path` is its folder as given."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"Repository({str(self.path)!r})"

    def run(
        self,
        *args: str | bytes,
        input: bytes = b"",
        env: Mapping[str, str] | None = None,
        user: bool = False,
    ) -> subprocess.CompletedProcess[bytes]:
        base = users_environment() if user else environment()
        return subprocess.run(
            ["git", *args],
            cwd=self.path,
            env=base | dict(env or {}),
            input=input,
            capture_output=True,
            check=False,
        )

    def git(
        self,
        *args: str | bytes,
        input: bytes = b"",
        env: Mapping[str, str] | None = None,
        check: bool = True,
        user: bool = False,
    ) -> bytes:
        """What the command printed; a failure names the command and what git said."""
        done = self.run(*args, input=input, env=env, user=user)
        if check and done.returncode:
            said = done.stderr.decode(errors="replace").strip().replace("\n", " / ")
            command = " ".join(os.fsdecode(word) for word in args)
            raise GitFailed(f"git {command} in {self.path}: exit {done.returncode}: {said}")
        return done.stdout

    def line(self, *args: str | bytes, env: Mapping[str, str] | None = None) -> str:
        return os.fsdecode(self.git(*args, env=env)).rstrip("\n")

    def code(self, *args: str | bytes, env: Mapping[str, str] | None = None) -> int:
        return self.run(*args, env=env).returncode

    def resolve(self, name: str) -> str | None:
        """The id that `name` stands for, or nothing."""
        done = self.run("rev-parse", "--verify", "--quiet", "--end-of-options", name)
        return done.stdout.decode().strip() or None if done.returncode == 0 else None

    def refs(self, pattern: str = "refs/") -> dict[bytes, str]:
        listed = self.git("for-each-ref", "--format=%(objectname) %(refname)", pattern)
        pairs = (line.split(b" ", 1) for line in listed.splitlines())
        return {name: oid.decode() for oid, name in pairs}

    def objects(self) -> ObjectReader:
        return ObjectReader(self)

    def git_dir(self) -> Path:
        return Path(self.line("rev-parse", "--absolute-git-dir"))

    def common_dir(self) -> Path:
        """Where refs and objects are, also for a linked working tree."""
        return (self.path / self.line("rev-parse", "--git-common-dir")).resolve()

    def is_ancestor(self, earlier: str, later: str) -> bool:
        return self.code("merge-base", "--is-ancestor", earlier, later) == 0
