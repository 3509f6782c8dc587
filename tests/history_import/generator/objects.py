# SPDX-License-Identifier: Apache-2.0
"""Git objects written byte for byte: odd headers, modes, signatures that fast-import would correct.

Owns the object formats. It must not know which histories are made of them.
"""

import hashlib
import os
import subprocess
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

PACK_KINDS = {b"commit": 1, b"tree": 2, b"blob": 3, b"tag": 4}
EMPTY_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
    "TZ": "UTC",
}

# path -> (mode, blob, symlink target or 40 hex digits of a gitlink)
Files = Mapping[bytes, tuple[bytes, bytes]]


def run_git(
    repository: Path | None, *args: str, stdin: bytes = b"", env: Mapping[str, str] = {}
) -> bytes:
    """Standard output of one git command that reads nobody's configuration."""
    base = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run(
        ["git", *args],
        cwd=repository,
        input=stdin,
        env={**base, **EMPTY_ENVIRONMENT, **env},
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"git {' '.join(args)}: {done.stderr.decode(errors='replace')}")
    return done.stdout


class Workshop:
    """Objects not yet in any repository; every id is known as soon as the object is added."""

    def __init__(self) -> None:
        self._objects: dict[str, tuple[bytes, bytes]] = {}

    def add(self, kind: bytes, data: bytes) -> str:
        oid = hashlib.sha1(b"%s %d\0" % (kind, len(data)) + data).hexdigest()
        self._objects.setdefault(oid, (kind, data))
        return oid

    def tree(self, files: Files) -> str:
        """The root tree of ``files``; folders follow from the paths."""
        here: dict[bytes, tuple[bytes, str]] = {}
        folders: dict[bytes, dict[bytes, tuple[bytes, bytes]]] = {}
        for path, (mode, data) in files.items():
            head, slash, rest = path.partition(b"/")
            if slash:
                folders.setdefault(head, {})[rest] = (mode, data)
            elif mode == b"160000":
                here[head] = (mode, data.decode())
            else:
                here[head] = (mode, self.add(b"blob", data))
        for name, inside in folders.items():
            here[name] = (b"40000", self.tree(inside))
        return self.add(b"tree", tree_bytes(here))

    def commit(
        self,
        tree: str,
        parents: Iterable[str],
        author: bytes,
        committer: bytes,
        message: bytes,
        headers: Iterable[tuple[bytes, bytes]] = (),
    ) -> str:
        """``headers`` follow the committer in order; their continuation lines are folded here."""
        lines = [b"tree " + tree.encode()]
        lines += [b"parent " + parent.encode() for parent in parents]
        lines += [b"author " + author, b"committer " + committer]
        lines += [key + b" " + value.replace(b"\n", b"\n ") for key, value in headers]
        return self.add(b"commit", b"\n".join(lines) + b"\n\n" + message)

    def write(self, repository: Path) -> None:
        """Everything added so far, as one pack."""
        pack = bytearray(b"PACK" + (2).to_bytes(4, "big") + len(self._objects).to_bytes(4, "big"))
        for kind, data in self._objects.values():
            pack += pack_header(PACK_KINDS[kind], len(data)) + zlib.compress(data, 1)
        pack += hashlib.sha1(pack).digest()
        run_git(repository, "index-pack", "--stdin", stdin=bytes(pack))


def tree_bytes(entries: Mapping[bytes, tuple[bytes, str]]) -> bytes:
    """Git sorts a folder as if its name ended with a slash."""

    def order(name: bytes) -> bytes:
        return name + b"/" if entries[name][0] == b"40000" else name

    return b"".join(
        entries[name][0] + b" " + name + b"\0" + bytes.fromhex(entries[name][1])
        for name in sorted(entries, key=order)
    )


def pack_header(kind: int, size: int) -> bytes:
    """Four bits of the size beside the kind, then seven bits a byte, lowest first."""
    first, size = (kind << 4) | (size & 15), size >> 4
    header = bytearray()
    while size:
        header.append(first | 0x80)
        first, size = size & 0x7F, size >> 7
    header.append(first)
    return bytes(header)


def init(folder: Path, refs: Mapping[str, str], workshop: Workshop, *, bare: bool) -> Path:
    """A repository at ``folder`` with the workshop's objects, on branch main."""
    options = ["--bare"] if bare else []
    run_git(None, "init", "--quiet", "--template=", "--initial-branch=main", *options, str(folder))
    workshop.write(folder)
    updates = "".join(f"create {name} {oid}\n" for name, oid in refs.items())
    run_git(folder, "update-ref", "--stdin", stdin=updates.encode())
    return folder
