# SPDX-License-Identifier: Apache-2.0
"""User-space instructions of the frontend per token, counted by callgrind.

Where a machine has no hardware counters, or is too busy for times to mean much, a count still
repeats to the percent. Each figure is the difference of two runs that differ in one length alone,
over the difference in tokens: start, stop and what a request costs once are in both. Steps are long
enough for a program under callgrind (some fifty times slower) to keep up, so that no two tokens of
a stream share a write.
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
from tests.e2e import upstream

START_LIMIT_S = 300.0
STEP_MS = "200"
STOP_LIMIT_S = 120.0


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
    runs = [
        _run(binary, model, f"{count.options} {length}", count.tokens, logs)
        for length in (count.short, count.long)
    ]
    (few, short), (many, long) = runs
    return (many - few) / (long - short)


def _run(binary: Path, model: Path, options: str, key: str, logs: Path) -> tuple[int, int]:
    """Instructions of a whole life of the frontend, and the tokens it dealt with."""
    out = logs / "callgrind.out"
    with _counted(binary, model, logs, out) as (url, pid):
        tokens = frontend.measure(url, pid, (*options.split(), "--timeout", "600"))[key]
    return total(out.read_text()), tokens


@contextlib.contextmanager
def _counted(binary: Path, model: Path, logs: Path, out: Path) -> Iterator[tuple[str, int]]:
    valgrind = ("valgrind", "--tool=callgrind", f"--callgrind-out-file={out}")
    with frontend.frontend(
        binary, model, ("--step-ms", STEP_MS), logs, wrapper=valgrind, limit_s=START_LIMIT_S
    ) as (url, server, _):
        yield url, server.pid
        # The count is written at the end of the process.
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(STOP_LIMIT_S)
    if not out.exists():
        raise SystemExit(f"error: {binary} left no count, see {logs}")


def total(text: str) -> int:
    """The sum over all threads in a callgrind file."""
    found = re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)
    if found is None:
        raise SystemExit("error: callgrind wrote no total")
    return int(found[1])
