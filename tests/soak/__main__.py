# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.soak`: simulated hours, then real minutes with the default model."""

from __future__ import annotations

import argparse
import time

from tests.soak.real import Soak
from tests.soak.simulated import Traffic
from vllm.config.embedded import DEFAULT_MODEL
from vllm.config.model_source import resolve


def main() -> None:
    parser = argparse.ArgumentParser(prog="nox -s soak --", description=__doc__)
    parser.add_argument("--hours", type=float, default=24.0, help="simulated (default 24)")
    parser.add_argument("--minutes", type=float, default=20.0, help="real (default 20)")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="of the real part")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    start = time.monotonic()
    traffic = Traffic(options.seed)
    tally = traffic.run(options.hours * 3600)
    print(
        f"{options.hours:g} simulated hours in {time.monotonic() - start:.0f} s: "
        f"{tally.arrived} requests, {tally.finished} finished, {tally.aborted} aborted, "
        f"{tally.steps} steps, {traffic.engine.num_preemptions} preemptions, "
        f"{tally.found} tokens found in the prefix cache",
        flush=True,
    )
    outcome = Soak(resolve(options.model).path, 512, options.seed).run(options.minutes * 60)
    print(
        f"{options.minutes:g} real minutes: {outcome.finished} finished, "
        f"{outcome.aborted} aborted, {outcome.tokens} tokens equal to running alone, "
        f"{outcome.steps} steps, "
        f"{outcome.preemptions} preemptions, {outcome.growth / 2**20:+.1f} MiB resident"
    )


if __name__ == "__main__":
    main()
