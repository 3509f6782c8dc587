# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.cost_bounds`: what each of 2,000 hostile bodies costs the frontend.

The release binary with the default model's tokenizer and template, the engine double behind it. CPU
is what all threads of the frontend's process were scheduled for between sending a body and having
read the whole answer, and what the process of a request's own chat template took. Fails when a body
takes more than the limit, or kills the frontend.
"""

from __future__ import annotations

import argparse
import http.client
import os
import tempfile
import urllib.parse
from collections import Counter
from pathlib import Path

from benchmarks import frontend, hostile_bodies, model_dir
from tests.e2e import loopback

LIMIT_MS = 200.0
# One token per answer: what is measured is the body, not what an engine generates.
FLAGS = ("--trust-request-chat-template",)
DOUBLE = ("--output-len", "1", "--max-model-len", "8192")


def cpu_ns(pid: int) -> int:
    """Nanoseconds that the threads of a process have run, and its children that have ended.

    Of the children the kernel tells clock ticks, which are 10 ms on most machines.
    """
    tasks = Path(f"/proc/{pid}/task").iterdir()
    own = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)
    # Behind the name in brackets, which may hold anything: fields 16 and 17 of the line.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return own + (int(fields[13]) + int(fields[14])) * 10**9 // os.sysconf("SC_CLK_TCK")


class Prober:
    """Sends bodies one after the other and measures what each cost."""

    def __init__(self, url: str, pid: int) -> None:
        self._address = urllib.parse.urlsplit(url).netloc
        self._pid = pid
        self._connection = http.client.HTTPConnection(self._address, timeout=120)

    def cost(self, path: str, body: bytes) -> tuple[int, float]:
        """Status and milliseconds of CPU."""
        before = cpu_ns(self._pid)
        status = self._ask(path, body)
        return status, (cpu_ns(self._pid) - before) / 1e6

    def _ask(self, path: str, body: bytes) -> int:
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", path, body, headers)
        response = self._connection.getresponse()
        response.read()
        if response.will_close:
            self._connection.close()
        return response.status


def measure(count: int, seed: int, kind: str = "") -> list[tuple[float, str, int, bytes]]:
    """(milliseconds, kind, status, body) of every body, the costliest first."""
    model = model_dir.write()
    kinds = [one for one in hostile_bodies.KINDS if kind in one.__name__]
    with (
        tempfile.TemporaryDirectory(prefix="vllm-bench-") as logs,
        loopback.before_a_double(frontend.OURS, model, DOUBLE, Path(logs), flags=FLAGS) as running,
    ):
        url, server, _ = running
        prober = Prober(url, server.pid)
        for _, path, body in hostile_bodies.bodies(seed + 1, len(hostile_bodies.KINDS)):
            prober.cost(path, body)  # tables that are built on first use
        found = []
        for name, path, body in hostile_bodies.bodies(seed, count, kinds):
            status, milliseconds = prober.cost(path, body)
            found.append((milliseconds, name, status, body))
    return sorted(found, reverse=True, key=lambda one: one[0])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost_bounds", description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", default="", help="only kinds whose name contains this")
    options = parser.parse_args()
    found = measure(options.count, options.seed, options.kind)
    statuses = Counter(status for _, _, status, _ in found)
    milliseconds = [one[0] for one in found]
    print(f"{len(found)} bodies of at most {hostile_bodies.LARGEST} bytes, seed {options.seed}")
    print(
        "status:", ", ".join(f"{status} x {number}" for status, number in sorted(statuses.items()))
    )
    print(f"CPU: median {milliseconds[len(found) // 2]:.2f} ms, largest {milliseconds[0]:.1f} ms")
    print("\n| kind | costliest, ms | status | body begins |\n|---|---:|---:|---|")
    shown: set[str] = set()
    for cost, kind, status, body in found:
        if kind not in shown:
            shown.add(kind)
            print(f"| {kind} | {cost:.1f} | {status} | `{body[:70].decode(errors='replace')}` |")
    if any(status >= 500 for status in statuses) or milliseconds[0] > LIMIT_MS:
        raise SystemExit(f"error: a body costs more than {LIMIT_MS:.0f} ms, or was answered 5xx")


if __name__ == "__main__":
    main()
