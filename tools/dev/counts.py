# SPDX-License-Identifier: Apache-2.0
"""Run test commands, show their output, and add up what they passed, failed and skipped.

Owns the reading of the closing lines of pytest and cargo; must not decide what is run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field

_PYTEST = re.compile(r"^=*\s*(?:no tests ran|(?:\d+ \w+,? ?)+) in [\d.]+")
_CARGO = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored")
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Counts:
    """What all commands of a session came to."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    broken: list[str] = field(default_factory=list)

    def run(self, name: str, command: list[str], **environ: str) -> None:
        """Run tests; a non-zero exit without a failed test counts as one failure."""
        failed_before = self.failed
        code = self._stream(name, command, environ)
        if code and self.failed == failed_before:
            self.failed += 1
        if code:
            self.broken.append(name)

    def check(self, name: str, command: list[str], **environ: str) -> None:
        """Run a check that has no tests of its own (a linter, a build): it counts as one."""
        before = (self.passed, self.failed, self.skipped)
        code = self._stream(name, command, environ)
        self.passed, self.failed, self.skipped = before
        if code:
            self.failed += 1
            self.broken.append(name)
        else:
            self.passed += 1

    def _stream(self, name: str, command: list[str], environ: dict[str, str]) -> int:
        print(f"\n--- {name}: {' '.join(command)}", flush=True)
        process = subprocess.Popen(
            command, env={**os.environ, **environ}, text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            self.read(line)
        return process.wait()

    def read(self, line: str) -> None:
        """Add the numbers of a closing line; any other line counts nothing."""
        line = _ESCAPES.sub("", line)
        if match := _CARGO.match(line):
            passed, failed, skipped = map(int, match.groups())
        elif _PYTEST.match(line):
            words = {word: int(n) for n, word in re.findall(r"(\d+) (\w+)", line.split(" in ")[0])}
            passed = words.get("passed", 0)
            failed = words.get("failed", 0) + words.get("error", 0) + words.get("errors", 0)
            skipped = words.get("skipped", 0)
        else:
            return
        self.passed += passed
        self.failed += failed
        self.skipped += skipped

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"
