# SPDX-License-Identifier: Apache-2.0
"""``python -m vllm.engine --args-fd N``: be one engine process.

Reads what to do from an inherited descriptor (or from the command line, where others can see it).
Must not know more than where to find the core.
"""

from __future__ import annotations

import argparse
import gc
import os
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

from vllm import logging
from vllm.distributed.remote_ranks import RankListener, accept_ranks
from vllm.engine.process import EngineArgs, read_args, run
from vllm.errors import ExitCode, UsageError
from vllm.log_lines import open_standard_streams
from vllm.logging import OnProgress


def main(argv: Sequence[str] | None = None) -> int:
    """Parse ``argv`` and run; returns the exit code."""
    open_standard_streams()
    try:
        args = _arguments(argv)
    except UsageError as error:
        logging.setup("engine")
        logging.init_logger(__name__).error("%s", error)
        return int(error.exit_code)
    logging.setup(f"engine {args.engine_index}", args.log_format)
    return int(run(args, partial(build_core, ranks=args.ranks)))


def build_core(
    engine: dict[str, Any], progress: OnProgress, ranks: RankListener | None = None
) -> Any:
    """Load the model; the first thing here that needs torch.

    Hardly anything that is made meanwhile is garbage (0.6 MB of 270,000 objects, no tensor), so no
    collection looks for it: a tenth of the time that torch takes to load, and later milliseconds in
    the middle of a step. Only here: a program that uses `LLM` decides on its own garbage.
    """
    gc.disable()
    from vllm.config.engine import EngineConfig  # noqa: PLC0415
    from vllm.engine.core import EngineCore  # noqa: PLC0415

    config = EngineConfig.from_json(engine)
    leader = None if ranks is None else accept_ranks(config.tensor_parallel_size, ranks)
    core = EngineCore(config, progress, leader)
    gc.freeze()
    gc.enable()
    return core


def _arguments(argv: Sequence[str] | None) -> EngineArgs:
    parser = argparse.ArgumentParser(prog="python -m vllm.engine", description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--args-fd", type=int, help="descriptor to read the JSON arguments from")
    source.add_argument("--args-json", help="the JSON arguments; visible in process lists")
    options = parser.parse_args(argv)
    if options.args_json is not None:
        return read_args(options.args_json)
    return read_args(_read_descriptor(options.args_fd))


def _read_descriptor(number: int) -> bytes:
    try:
        with os.fdopen(number, "rb") as source:
            return source.read()
    except OSError as error:
        raise UsageError(f"--args-fd {number}: {error.strerror}") from error


def run_and_leave() -> NoReturn:
    """Be the process, and leave it to the kernel to free what torch holds.

    Taking its modules apart one by one takes the interpreter a second, and many on a busy machine:
    longer than a supervisor waits.
    """
    try:
        code = main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(ExitCode.OK)
    logging.flush()
    os._exit(code)


if __name__ == "__main__":
    run_and_leave()
