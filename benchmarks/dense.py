# SPDX-License-Identifier: Apache-2.0
"""Dense bfloat16 weights in process beside transformers' `generate`.

Owns the comparison; the workloads are those of `benchmarks.engine`. The model is a directory with
bfloat16 weights; TRANSFORMERS_PYTHON holds the command of an interpreter that has transformers.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

from benchmarks.engine import BATCHES, OUTPUT, PREFILL, PROMPT, decode_rate, prefill_rate
from benchmarks.table import Row, Samples
from vllm.config.engine import EngineConfig
from vllm.config.model_source import resolve
from vllm.engine.core import EngineCore

PEER = Path(__file__).with_name("transformers_peer.py")


def peer_rates(command: str, model: Path) -> dict[str, float]:
    threads = len(os.sched_getaffinity(0))
    numbers = map(str, (threads, PROMPT, OUTPUT, PREFILL, *BATCHES))
    # Not run by its path, which would put this folder, and its `requests`, before all packages.
    done = subprocess.run(
        [*shlex.split(command), "-", str(model), *numbers],
        input=PEER.read_text(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def run(model: str, repeats: int) -> list[Row]:
    """All rows, in tokens per second."""
    path, command = resolve(model).path, os.environ.get("TRANSFORMERS_PYTHON")
    core = EngineCore(EngineConfig(model=str(path), enable_prefix_caching=False))
    decode_rate(core, 8)  # touch the mapped weights once
    ours, theirs = Samples(), Samples()
    for _ in range(repeats):
        for batch in BATCHES:
            ours.add(f"BF16 decode B={batch}", decode_rate(core, batch))
        ours.add(f"BF16 prefill {PREFILL}", prefill_rate(core))
        if command:
            theirs.add_all(peer_rates(command, path))
    return [Row(name, "token/s", ours[name], theirs.get(name), "higher") for name in ours]
