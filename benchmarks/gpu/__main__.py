# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.gpu`: kernels and engine on an NVIDIA GPU, as Markdown and JSON.

Each part runs in a process of its own: a kernel that faults takes its part down and no other.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MODELS = ("dense-1b", "dense-8b", "moe-1b")
PARTS = ("card", "kernels", *MODELS)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--part", choices=PARTS, action="append", help="default: all")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of figures.json, figures.md")
    parser.add_argument("--seconds", type=int, default=150, help="most that one part may take")
    parser.add_argument("--ceiling", type=float, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def compute(part: str, ceiling: float) -> dict[str, Any]:
    """One part, in this process."""
    from benchmarks.gpu import card, engine, kernels  # noqa: PLC0415 - only here is torch loaded

    if part == "card":
        return card.describe()
    return kernels.run() if part == "kernels" else engine.run(part, ceiling)


def run_alone(part: str, out: Path, seconds: int, ceiling: float) -> dict[str, Any]:
    """One part in a process of its own. Raises RuntimeError with the end of what it said."""
    file = out / f"{part}.json"
    file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.gpu", "--alone", "--part", part]
    command += ["--out", str(out), "--ceiling", str(ceiling)]
    done = subprocess.run(command, timeout=seconds, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0 or not file.is_file():
        raise RuntimeError(f"exit {done.returncode}: {done.stderr.strip()[-500:]}")
    return json.loads(file.read_text())


def collect(parts: list[str], out: Path, seconds: int) -> dict[str, Any]:
    """Figures of all parts; `failed` has the reasons of those that have none."""
    figures: dict[str, Any] = {"engine": [], "failed": {}}
    for part in parts:
        start = time.perf_counter()
        ceiling = figures.get("kernels", {}).get("ceilings", {}).get("bytes_per_s", 0.0)
        try:
            found = run_alone(part, out, seconds, ceiling)
        except (RuntimeError, OSError, ValueError, subprocess.TimeoutExpired) as error:
            figures["failed"][part] = str(error)
        else:
            if part in MODELS:
                figures["engine"].append(found)
            else:
                figures[part] = found
        print(f"{part}: {time.perf_counter() - start:.0f} s", flush=True)
        write(figures, out)
    return figures


def write(figures: dict[str, Any], out: Path) -> None:
    from benchmarks.gpu.report import markdown  # noqa: PLC0415 - after the parts

    (out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    (out / "figures.md").write_text(markdown(figures))


def main() -> None:
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    parts = options.part or list(PARTS)
    if options.alone:
        found = compute(parts[0], options.ceiling)
        (options.out / f"{parts[0]}.json").write_text(json.dumps(found))
        return
    collect(parts, options.out, options.seconds)
    print((options.out / "figures.md").read_text())


if __name__ == "__main__":
    main()
