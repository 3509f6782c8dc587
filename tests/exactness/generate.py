# SPDX-License-Identifier: Apache-2.0
"""Runs the engine in a process of its own, because the kernels read VLLM_CPU_ISA once.

`run(jobs, isa)` starts `python -m tests.exactness.generate` and hands it the jobs as JSON. A job is
a dict: `config` (fields of EngineConfig), `requests` (name, prompt, parameters and, optionally,
`at`: the step before which it arrives) and `logits` (a file to write to: f32 [tokens, vocab] of the
first request). The answer per job: tokens by name, number of steps and preemptions.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 600


def run(jobs: list[dict[str, Any]], isa: str | None = None) -> list[dict[str, Any]]:
    """Answers of the engine under the given instruction set (None: the machine's best)."""
    environment = dict(os.environ)
    environment.pop("VLLM_CPU_ISA", None)
    if isa is not None:
        environment["VLLM_CPU_ISA"] = isa
    process = subprocess.run(
        [sys.executable, "-m", "tests.exactness.generate"],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-4000:]
    return json.loads(process.stdout.splitlines()[-1])


def _run_job(job: dict[str, Any]) -> dict[str, Any]:
    import torch  # noqa: PLC0415 - only the child process needs the engine

    from tests.unit.engine.drive import request  # noqa: PLC0415
    from vllm.config.engine import EngineConfig  # noqa: PLC0415
    from vllm.engine.core import EngineCore  # noqa: PLC0415

    engine = EngineCore(EngineConfig(**job["config"]))
    coming = sorted(job["requests"], key=lambda item: item.get("at", 0))
    tokens: dict[str, list[int]] = {item["name"]: [] for item in coming}
    logits: list[torch.Tensor] = []
    step = 0
    while coming or engine.has_work():
        while coming and coming[0].get("at", 0) <= step:
            item = coming.pop(0)
            engine.add_request(request(item["name"], item["prompt"], **item.get("params", {})))
        for output in engine.step():
            tokens[output.request_id] += output.new_token_ids
            if job.get("logits"):
                logits.append(engine.runner.logits[0].clone())
        step += 1
    if job.get("logits"):
        torch.save(torch.stack(logits), job["logits"])
    return {
        "tokens": tokens,
        "steps": engine.num_steps,
        "preemptions": engine.scheduler.num_preemptions,
    }


if __name__ == "__main__":
    answers = [_run_job(job) for job in json.load(sys.stdin)]
    print(json.dumps(answers))
