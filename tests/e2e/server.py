# SPDX-License-Identifier: Apache-2.0
"""A `vllm serve` under test: start it, wait for states, look at its processes, see that none is
left.

Every process below it carries a mark in its environment, so that orphans are found too.
"""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
MARK = "VLLM_TEST_MARK"
VLLM_SERVE = (sys.executable, "-m", "vllm.cli", "serve")
PATIENCE_S = 120.0  # far above what any wait takes; a test that needs it has failed
_READY = re.compile(r"ready: [\d.]+ s, serving (?P<name>.+) on (?P<url>\S+)")


def wait_for(condition: Callable[[], object], what: str, seconds: float = PATIENCE_S) -> None:
    """Wait until `condition` holds; fail, naming `what`, after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.02)


class Server:
    """One `vllm serve` (or `command`), with a private folder for temporary files and caches."""

    def __init__(
        self,
        folder: Path,
        arguments: Sequence[str],
        command: Sequence[str] = VLLM_SERVE,
        **environ: str,
    ) -> None:
        self.temp = folder / "tmp"
        self.temp.mkdir(parents=True, exist_ok=True)
        self.log_path = folder / "log"
        self.mark = uuid.uuid4().hex
        environment = {
            **os.environ,
            MARK: self.mark,
            "TMPDIR": str(self.temp),
            "PYTHONPATH": str(ROOT),
            "HF_HUB_OFFLINE": "1",
            **environ,
        }
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=folder,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    @property
    def errors(self) -> list[str]:
        """The lines that tell an error."""
        return [line for line in self.log.splitlines() if re.search(r"\bERROR\b|^error:", line)]

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    @property
    def url(self) -> str:
        match = _READY.search(self.log)
        assert match is not None, self.log
        return match["url"]

    def wait_ready(self) -> Server:
        wait_for(lambda: self.ended or _READY.search(self.log), "the server to be ready")
        assert not self.ended, self.log
        return self

    def wait_exit(self) -> int:
        """Its exit code."""
        try:
            return self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not exit: {self.log}") from None

    def processes(self) -> dict[int, str]:
        """Every living process that carries the mark: pid -> command line."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes():
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    if command:  # a zombie has none
                        found[int(entry.name)] = command
            except OSError:
                continue
        return found

    def pid_of(self, role: str) -> int | None:
        """Process id of `supervisor`, `frontend`, `engine`, or `engine N` by its order of start."""
        if role == "supervisor":
            return self.process.pid
        words = {
            "engine": ("vllm.engine ",),
            "frontend": ("vllm.api_server ", " frontend --listen-fd "),
        }
        kind, _, rank = role.partition(" ")
        found = [
            pid
            for pid, command in sorted(self.processes().items())
            if any(word in command for word in words[kind])
        ]
        return found[int(rank or 0)] if len(found) > int(rank or 0) else None

    def wait_pid(self, role: str) -> int:
        wait_for(lambda: self.ended or self.pid_of(role), f"the {role} process")
        pid = self.pid_of(role)
        assert pid is not None, self.log
        return pid

    def kill(self, role: str, number: signal.Signals = signal.SIGKILL) -> None:
        os.kill(self.wait_pid(role), number)

    def leftovers(self) -> list[str]:
        """Socket files and folders of sockets in the private temporary folder."""
        return [
            str(path)
            for path in self.temp.rglob("*")
            if stat.S_ISSOCK(path.lstat().st_mode) or path.name.startswith("vllm-")
        ]

    def assert_nothing_left(self) -> None:
        """No process and no socket file; waits for the kernel to be done with dying processes."""
        wait_for(lambda: not self.processes(), f"the end of {self.processes()}")
        assert self.leftovers() == []

    def close(self) -> None:
        """End everything that carries the mark."""
        if not self.ended:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
