# SPDX-License-Identifier: Apache-2.0
"""What happens to a repository later: commits on a branch, a source that goes on or is forced back.

Works on branches without a working tree, so it serves bare and other repositories alike.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from .objects import run_git

BEN = "Ben Beispiel <ben@example.net>"
# After every date in the sources and hosts.
LATER = 1790000000


def git(repository: Path, *args: str, stdin: bytes = b"") -> str:
    """Standard output without the final newline, for the questions that tests ask."""
    return run_git(repository, *args, stdin=stdin).decode(errors="surrogateescape").rstrip("\n")


def tip(repository: Path, ref: str = "refs/heads/main") -> str:
    return git(repository, "rev-parse", "--verify", f"{ref}^{{commit}}")


def change(
    repository: Path,
    files: Mapping[str, bytes | None],
    message: str,
    *,
    ref: str = "refs/heads/main",
    moves: Mapping[str, str] = {},
    parents: tuple[str, ...] = (),
) -> str:
    """One commit on ``ref``: ``moves`` first, then ``files``, where None deletes.

    Further ``parents`` make it a merge.
    """
    old = tip(repository, ref)
    with tempfile.TemporaryDirectory() as scratch:
        env = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
        run_git(repository, "read-tree", old, env=env)
        lines = _moved(repository, moves, env) + _written(repository, files)
        run_git(repository, "update-index", "-z", "--index-info", stdin=lines, env=env)
        tree = run_git(repository, "write-tree", env=env).decode().strip()
    new = commit_tree(repository, tree, (old, *parents), message)
    run_git(repository, "update-ref", ref, new, old)
    return new


def _moved(repository: Path, moves: Mapping[str, str], env: Mapping[str, str]) -> bytes:
    lines = b""
    for old, new in moves.items():
        mode, oid, _stage = run_git(repository, "ls-files", "-s", "--", old, env=env).split()[:3]
        lines += b"0 %b\t%b\0%b %b\t%b\0" % (b"0" * 40, old.encode(), mode, oid, new.encode())
    return lines


def _written(repository: Path, files: Mapping[str, bytes | None]) -> bytes:
    lines = b""
    for path, data in files.items():
        if data is None:
            lines += b"0 %b\t%b\0" % (b"0" * 40, path.encode())
        else:
            oid = run_git(repository, "hash-object", "-w", "--stdin", stdin=data).strip()
            lines += b"100644 %b\t%b\0" % (oid, path.encode())
    return lines


def commit_tree(repository: Path, tree: str, parents: tuple[str, ...], message: str) -> str:
    """Dated by the number of its ancestors, so the same edits give the same ids."""
    count = int(git(repository, "rev-list", "--count", *parents)) if parents else 0
    name, _, mail = BEN.rpartition(" ")
    when = f"{LATER + 60 * count} +0200"
    env = {
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", name), ("EMAIL", mail.strip("<>")), ("DATE", when))
    }
    over = [word for parent in parents for word in ("-p", parent)]
    return (
        run_git(repository, "commit-tree", tree, *over, stdin=message.encode(), env=env)
        .decode()
        .strip()
    )


def advance(source: Path, commits: int = 3) -> str:
    """The source goes on by ``commits``; each writes a file of its own and one that all write."""
    for _ in range(commits):
        number = int(git(source, "rev-list", "--count", "refs/heads/main"))
        files: dict[str, bytes | None] = {
            f"later/file{number}.txt": b"written by commit %d\n" % number,
            "later/all.txt": b"last written by commit %d\n" % number,
        }
        change(source, files, f"feat: later work ({number})\n")
    return tip(source)


def force_back(source: Path, commits: int, instead: int = 1) -> str:
    """The source's main loses its last ``commits`` and gets ``instead`` others."""
    old = tip(source, f"refs/heads/main~{commits}")
    run_git(source, "update-ref", "refs/heads/main", old)
    for n in range(instead):
        change(source, {"forced.txt": b"%d\n" % n}, f"feat: forced {n}\n")
    return tip(source)
