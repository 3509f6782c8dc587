# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.history_import`: the verbs of tools/history_import, timed on two sources.

The sources are generated: one with the profile of the first real one (275 commits, 70,396 lines)
and one of 100,001 commits. Every run must succeed, proofs included, or nothing is printed. Owns
the targets. Needs git-filter-repo beside this interpreter.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.table import spread
from tests.history_import.generator import (
    advance,
    change,
    git,
    make_host,
    make_source,
    write_config,
)
from tools.history_import import closure, config, engines, graft
from tools.history_import.git import Repository
from tools.history_import.packs import PackWriter

ROOT = Path(__file__).resolve().parents[1]
EVERY_S = 0.05
SYNCED = 40  # commits that a sync brings on the first source
EXPORTED = 10


@dataclass
class Row:
    source: str
    work: str
    target_s: float
    target_mib: float = 0.0
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)  # user and system, children included
    mebibytes: list[float] = field(default_factory=list)

    def line(self) -> str:
        limit = f"{self.target_s:g} s" + (
            f", {self.target_mib:,.0f} MiB" if self.target_mib else ""
        )
        return (
            f"| {self.source} | {self.work} | {spread(self.seconds)} | {spread(self.cpu)} | "
            f"{max(self.mebibytes, default=0):,.0f} | {limit} | {'yes' if self.met else '**no**'} |"
        )

    @property
    def met(self) -> bool:
        slowest, largest = max(self.seconds), max(self.mebibytes, default=0)
        return slowest <= self.target_s and (not self.target_mib or largest <= self.target_mib)


class Memory:
    """Peak of a session's processes together; pages that several share are counted once."""

    def __init__(self, session: int) -> None:
        self.session, self.peak = session, 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        self._ended.set()
        self._thread.join()
        return self.peak / 1024

    def _watch(self) -> None:
        while not self._ended.wait(EVERY_S):
            self.peak = max(self.peak, sum(self._sizes()))

    def _sizes(self) -> Iterator[int]:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == self.session:
                    yield proportional(folder)
            except OSError:  # it ended meanwhile
                continue


def proportional(folder: Path) -> int:
    """KiB of a process."""
    for line in (folder / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def timed(row: Row, command: list[str]) -> None:
    started = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
        memory = Memory(process.pid)
        _pid, status, used = os.wait4(process.pid, 0)
        process.returncode = code = os.waitstatus_to_exitcode(status)
        row.seconds.append(time.perf_counter() - started)
        row.cpu.append(used.ru_utime + used.ru_stime)
        row.mebibytes.append(memory.stop())
        said.seek(0)
        if code:
            raise SystemExit(f"{' '.join(command)}: exit {code}\n{said.read().decode()}")
    figures = f"{row.seconds[-1]:7.2f} s {row.cpu[-1]:7.2f} s CPU {row.mebibytes[-1]:6.0f} MiB"
    print(f"{figures}  {row.source}: {row.work}", file=sys.stderr, flush=True)


def verb(name: str, host: Path, *options: str) -> list[str]:
    where = [str(host.with_suffix(".toml")), "--host", str(host)]
    return [sys.executable, "-m", "tools.history_import", name, *where, *options]


def land(host: Path) -> None:
    git(host, "merge", "--quiet", "--ff-only", "import/frontend")


def profile_rows(folder: Path, repeats: int) -> list[Row]:
    source = make_source("profile", folder / "profile")
    works = {"plan": 3, "import": 4, "verify, every line and file": 20, "sync of 40 commits": 3}
    rows = {work: Row("275 commits", work, limit) for work, limit in works.items()}
    rows["export"] = Row("275 commits", f"export of {EXPORTED} commits", 2)
    for number in range(repeats):
        host = make_host("plain", folder / f"host{number}")
        write_config(host, source)
        timed(rows["plan"], verb("plan", host))
        timed(rows["import"], verb("import", host))
        land(host)
        timed(rows["verify, every line and file"], verb("verify", host, "--ref", "main"))
        for n in range(EXPORTED):
            change(host, {"rust/export.txt": b"%d\n" % n, "README.md": b"%d\n" % n}, f"n {n}\n")
        timed(rows["export"], verb("export", host))
        synced = make_host("plain", folder / f"synced{number}")
        write_config(synced, source, source__pin=git(source, "rev-parse", f"main~{SYNCED}"))
        subprocess.run(verb("import", synced), cwd=ROOT, check=True, capture_output=True)
        land(synced)
        write_config(synced, source)
        timed(rows["sync of 40 commits"], verb("sync", synced))
    return list(rows.values())


def scale_rows(folder: Path) -> list[Row]:
    name = "100,001 commits"
    generate = Row(name, "made by fast-import (the generator)", 60)
    started = time.perf_counter()
    source = make_source("scale", folder / "scale")
    generate.seconds.append(time.perf_counter() - started)
    host = make_host("plain", folder / "host")
    write_config(host, source)
    steps: list[tuple[Row, Callable[[], list[str]]]] = [
        (Row(name, "import, both engines, proved", 90, 1024), lambda: verb("import", host)),
        (
            Row(name, "verify without blame and log", 90, 1024),
            lambda: verb("verify", host, "--ref", "import/frontend", "--no-blame"),
        ),
        (Row(name, "ids alone, recomputed", 10, 1024), lambda: recomputing(host)),
    ]
    for row, command in steps:
        timed(row, command())
    return [generate, *(row for row, _command in steps), *later_rows(name, source, host)]


def later_rows(name: str, source: Path, host: Path) -> list[Row]:
    """Without a target in the specification; the sync recomputes everything."""
    land(host)
    advance(source, 3)
    write_config(host, source)
    sync, export = Row(name, "sync of 3 commits", 90, 1024), Row(name, "export of 1 commit", 10)
    timed(sync, verb("sync", host))
    land(host)
    change(host, {"rust/export.txt": b"1\n"}, "one\n")
    timed(export, verb("export", host))
    return [sync, export]


def recomputing(host: Path) -> list[str]:
    return [sys.executable, "-m", "benchmarks.history_import", "--recompute", str(host)]


def recompute(host: Path) -> None:
    """Reads the originals in the host and makes every image's id again; writes nothing there."""
    wanted = config.load(host.with_suffix(".toml"))
    found = closure.read(Repository(host), wanted.source.pin)
    references = found.references() if wanted.messages.translate_hashes else {}
    writer = PackWriter(Repository(host))
    wrap = graft.Wrapper(writer, wanted.target.prefix.encode())
    images = graft.Graft(found, engines.rules(wanted), references).run(writer, wrap).images
    tip = git(host, "rev-parse", "refs/imports/frontend/tip")
    if images[wanted.source.pin] != tip:
        raise SystemExit(f"recomputed {images[wanted.source.pin]}, the host has {tip}")


def table(rows: list[Row]) -> str:
    head = [
        "| source | work | wall s | CPU s | peak MiB, children included | target | met |",
        "|---|---|---:|---:|---:|---|---|",
    ]
    return "\n".join([*head, *(row.line() for row in rows)])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history_import")
    parser.add_argument("--part", choices=["profile", "scale", "all"], default="all")
    parser.add_argument("--repeats", type=int, default=3, help="of the small source (default 3)")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--recompute", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if options.recompute:
        recompute(options.recompute)
        return
    os.environ |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="history-import-bench-") as folder:
        if options.part != "scale":
            rows += profile_rows(Path(folder), options.repeats)
        if options.part != "profile":
            rows += scale_rows(Path(folder))
    print(table(rows))
    if options.json:
        figures = [asdict(row) | {"met": row.met} for row in rows]
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
