# SPDX-License-Identifier: Apache-2.0
"""A source of 100,001 commits, 2,866 merges and about 240,000 blobs, for slow tests and benchmarks.

Owns its numbers. Made by fast-import in less than a minute on one core.
"""

from pathlib import Path

from .objects import run_git
from .stream import Stream, fast_import

COMMITS = 100_001
MERGES = 2_866
FOLDERS, FILES_PER_FOLDER = 120, 40
ARM = 3  # commits on a side line before it is merged
# A merge with its side line is ARM + 1 commits; the rest of a period is on the first-parent line.
PERIOD = COMMITS // MERGES
LINES = 24
PEOPLE = [b"Person %d <person%d@example.org>" % (n, n) for n in range(40)]
ZONES = (b"+0800", b"-0700", b"+0000", b"+0530")


class Big:
    """Writes the stream; every choice follows from the commit's number."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.count = 0

    def commit(
        self, branch: bytes, parents: list[int], extra: list[tuple[bytes, int]], files: int
    ) -> tuple[int, list[tuple[bytes, int]]]:
        n = self.count
        self.count += 1
        changes = [self.change(n, k) for k in range(files)]
        message = b"feat: step %d (#%d)\n\nThe body of step %d.\n" % (n, n % 5000 + 1, n)
        when = b"%d %b" % (1500000000 + n * 600, ZONES[n % 4])
        mark = self.stream.commit(
            branch, when, message, extra + changes, parents, PEOPLE[n * 7 % 40]
        )
        return mark, changes

    def change(self, n: int, k: int) -> tuple[bytes, int]:
        """One line names the commit; the others follow from the file's path."""
        which = (n * 31 + k * 1009) % (FOLDERS * FILES_PER_FOLDER)
        folder, name = divmod(which, FILES_PER_FOLDER)
        path = b"crates/c%03d/src/file%02d.rs" % (folder, name)
        fixed = b"// %b: the text of this line stays as it is\n" % path
        data = (
            fixed * (n % LINES)
            + b"let step_%d_%d = %d;\n" % (n, k, n * n)
            + fixed * (LINES - n % LINES)
        )
        return path, self.stream.blob(data)


def write(stream: Stream) -> None:
    big = Big(stream)
    main: list[int] = []
    for merge in range(MERGES + 1):
        period = PERIOD if merge < MERGES else COMMITS - big.count
        straight = period - ARM - 1 if merge < MERGES else period
        for _ in range(straight):
            mark, _changes = big.commit(b"main", main, [], 2 + (big.count % 5 > 2))
            main = [mark]
        if merge < MERGES:
            main = [side_line(big, main[0])]


def side_line(big: Big, base: int) -> int:
    tip: list[int] = [base]
    changes: list[tuple[bytes, int]] = []
    for _ in range(ARM):
        mark, new = big.commit(b"side", tip, [], 3)
        tip, changes = [mark], changes + new
    big.stream.drop(b"side")
    return big.commit(b"main", [base, tip[0]], changes, 0)[0]


def source(folder: Path) -> Path:
    run_git(None, "init", "--quiet", "--bare", "--template=", "--initial-branch=main", str(folder))
    importer = fast_import(folder)
    assert importer.stdin is not None
    write(Stream(importer.stdin))
    importer.stdin.close()
    if importer.wait():
        raise RuntimeError("fast-import failed")
    return folder
