# SPDX-License-Identifier: Apache-2.0
"""User-space instructions of the frontend per token, counted by callgrind.

Where a machine has no hardware counters, or is too busy for times to mean much, a count still
repeats to the percent. One process is started and warmed up; then two loads are counted that differ
in one length alone. A figure is their difference over the difference in tokens: what a request
costs once is in both. Steps are long enough for a program under callgrind (some fifty times slower)
to keep up, so that no two tokens of a stream share a write.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import frontend, model_dir
from benchmarks.table import Goal, Row
from tests.e2e import loopback, upstream

START_LIMIT_S = 300.0
STEP_MS = "200"


@dataclass(frozen=True)
class Count:
    """Options of both runs, and which of the generator's counts the difference is divided by."""

    name: str
    options: str
    short: str
    long: str
    tokens: str
    goal: Goal | None


STREAM = "--concurrency 16 --num-requests 16 --input-len 32"
SHORT, LONG = "--output-len 32", "--output-len 96"
PROMPT = "--concurrency 1 --input-len 8000 --output-len 1 --endpoint chat"
FEW, MORE = "--num-requests 4", "--num-requests 12"
ANSWER_TOKENS, PROMPT_TOKENS = "completion_tokens", "prompt_tokens"

COUNTS = (
    Count(
        "streamed chat token, C=16", f"--endpoint chat {STREAM}", SHORT, LONG,
        ANSWER_TOKENS, Goal(12_000, 6_000, absolute=True),
    ),
    Count(
        "streamed completion token, C=16", f"--endpoint completions {STREAM}", SHORT, LONG,
        ANSWER_TOKENS, Goal(10_000, 5_000, absolute=True),
    ),
    Count(
        "token of a completion not streamed, C=16", f"--endpoint completions --no-stream {STREAM}",
        SHORT, LONG, ANSWER_TOKENS, Goal(2_000, 1_000, absolute=True),
    ),
    Count(
        "streamed chat token with top-5 log probabilities, C=16",
        f"--endpoint chat --logprobs 5 {STREAM}", SHORT, LONG, ANSWER_TOKENS, None,
    ),
    Count(
        "prompt token, 8k common words, all prompts distinct", f"{PROMPT} --prompts distinct",
        FEW, MORE, PROMPT_TOKENS, Goal(300, 150, absolute=True),
    ),
    Count(
        "prompt token, 8k made-up words, nearly each of them new", f"{PROMPT} --prompts unseen",
        FEW, MORE, PROMPT_TOKENS, None,
    ),
)  # fmt: skip


def run(repeats: int, logs: Path, only: str = "") -> list[Row]:
    """All rows whose name contains `only`.

    Raises:
        SystemExit: valgrind is not installed, or a run under it failed.
    """
    if shutil.which("valgrind") is None:
        raise SystemExit("error: valgrind was not found: install it, or leave this part out")
    model, sides = model_dir.write(), (frontend.OURS, upstream.binary())
    rows = []
    for count in COUNTS:
        if only not in count.name:
            continue
        ours, peer = (
            [_per_token(count, binary, model, logs) for _ in range(repeats)] for binary in sides
        )
        rows.append(Row(count.name, "instructions", ours, peer, "lower", count.goal))
    return rows


def _per_token(count: Count, binary: Path, model: Path, logs: Path) -> float:
    with _counted(binary, model, logs) as counted:
        counted.run(f"{count.options} {count.short}", count.tokens)
        few, short = counted.run(f"{count.options} {count.short}", count.tokens)
        many, long = counted.run(f"{count.options} {count.long}", count.tokens)
    return (many - few) / (long - short)


@dataclass
class Counted:
    """A frontend under callgrind, which writes a file `out.N` at each dump."""

    url: str
    pid: int
    out: Path
    dumps: int = 0

    def run(self, options: str, key: str) -> tuple[int, int]:
        """Instructions since the last run, and the tokens that the frontend dealt with."""
        self.dumps += 1
        # Another seed: no prompt comes twice.
        load = f"{options} --seed {self.dumps} --timeout 600".split()
        tokens = frontend.measure(self.url, self.pid, tuple(load))[key]
        subprocess.run(
            ["callgrind_control", "--dump", str(self.pid)], check=True, capture_output=True
        )
        return total(self.out.with_name(f"{self.out.name}.{self.dumps}").read_text()), tokens


@contextlib.contextmanager
def _counted(binary: Path, model: Path, logs: Path) -> Iterator[Counted]:
    out = logs / f"{binary.name}.callgrind"
    valgrind = (
        "valgrind",
        "--tool=callgrind",
        f"--callgrind-out-file={out}",
        "--compress-strings=no",
    )
    with loopback.before_a_double(
        binary, model, ("--step-ms", STEP_MS), logs, wrapper=valgrind, limit_s=START_LIMIT_S
    ) as (url, server, _):
        yield Counted(url, server.pid, out)


def total(text: str) -> int:
    """The sum over all threads in a callgrind file."""
    found = re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)
    if found is None:
        raise SystemExit("error: callgrind wrote no total")
    return int(found[1])
