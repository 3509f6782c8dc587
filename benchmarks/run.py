# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.run`: all tables, as Markdown on stdout and as JSON in a file."""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path

from benchmarks import engine, frontend, prefix, scheduler, server
from benchmarks.table import Row, markdown
from vllm.config.embedded import DEFAULT_MODEL

PARTS = ("frontend", "engine", "server", "prefix", "scheduler", "all")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="nox -s bench --", description=__doc__)
    parser.add_argument("--part", choices=PARTS, default="all")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side (default 3)")
    parser.add_argument("--only", default="", help="rows of the frontend whose name contains this")
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
    if options.part in ("frontend", "all"):
        with tempfile.TemporaryDirectory(prefix="vllm-bench-") as logs:
            rows = tables["frontend"] = frontend.run(options.repeats, Path(logs), options.only)
        print(markdown(rows, "upstream"), end="\n\n", flush=True)
    if options.part in ("engine", "all"):
        rows = tables["engine"] = engine.run(options.model, options.repeats)
        print(markdown(rows, "llama.cpp"), end="\n\n", flush=True)
    if options.part in ("server", "all"):
        with tempfile.TemporaryDirectory(prefix="vllm-bench-") as logs:
            rows = tables["server"] = server.run(options.model, options.repeats, Path(logs))
        print(markdown(rows, "llama-server"), end="\n\n", flush=True)
    if options.part in ("prefix", "all"):
        rows = tables["prefix"] = prefix.run(options.model, options.repeats)
        print(markdown(rows, "the first"), end="\n\n", flush=True)
    if options.part in ("scheduler", "all"):
        rows = tables["scheduler"] = scheduler.run(options.repeats)
        print(markdown(rows, "peer"), flush=True)
    if options.json:
        figures = {name: [row.as_dict() for row in rows] for name, rows in tables.items()}
        options.json.write_text(json.dumps({"cpu": cpu_model(), **figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
