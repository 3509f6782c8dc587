# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.run`: all tables, as Markdown on stdout and as JSON in a file."""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import (
    dense,
    end_to_end,
    engine,
    frontend,
    instructions,
    prefix,
    scale,
    scheduler,
    server,
)
from benchmarks.table import Row, markdown
from vllm.config.embedded import DEFAULT_MODEL


@dataclass(frozen=True)
class Part:
    """A table: what fills it, from the options and a folder for logs, and the peer's name."""

    peer: str
    run: Callable[[argparse.Namespace, Path], list[Row]]


PARTS = {
    "frontend": Part("upstream", lambda o, logs: frontend.run(o.repeats, logs, o.only)),
    # Counted, not timed: the second run would count the same.
    "instructions": Part("upstream", lambda o, logs: instructions.run(1, logs, o.only)),
    "engine": Part("llama.cpp", lambda o, _: engine.run(o.model, o.repeats)),
    "dense": Part("transformers", lambda o, _: dense.run(o.model, o.repeats)),
    "server": Part("llama-server", lambda o, logs: server.run(o.model, o.repeats, logs, o.only)),
    "prefix": Part("the first", lambda o, _: prefix.run(o.model, o.repeats)),
    "scheduler": Part("peer", lambda o, _: scheduler.run(o.repeats)),
    "scale": Part("64 streams", lambda o, _: scale.run(o.repeats)),
    "end-to-end": Part("reference frontend", lambda o, _: end_to_end.run(o.repeats, o.only)),
}

# The default model has no dense weights.
ALL = [name for name in PARTS if name != "dense"]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="nox -s bench --", description=__doc__)
    parser.add_argument("--part", choices=(*PARTS, "all"), default="all")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side (default 3)")
    parser.add_argument(
        "--only",
        default="",
        help="rows whose name contains this: of frontend, instructions, server, end-to-end",
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="of the engine's rows")
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser.parse_args()


def cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {len(os.sched_getaffinity(0))} threads"


def main() -> None:
    options = arguments()
    tables: dict[str, list[Row]] = {}
    print(f"CPU: {cpu_model()}; {options.repeats} repeats, median (lowest-highest)\n")
    for name in ALL if options.part == "all" else (options.part,):
        with tempfile.TemporaryDirectory(prefix="vllm-bench-") as logs:
            tables[name] = PARTS[name].run(options, Path(logs))
        print(markdown(tables[name], PARTS[name].peer), end="\n\n", flush=True)
    if options.json:
        figures = {name: [row.as_dict() for row in rows] for name, rows in tables.items()}
        options.json.write_text(json.dumps({"cpu": cpu_model(), **figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
