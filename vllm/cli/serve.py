# SPDX-License-Identifier: Apache-2.0
"""`vllm serve`: everything is checked that can be checked, then the processes are started."""

from __future__ import annotations

import argparse
from pathlib import Path

from vllm.cli import frontend_binary
from vllm.cli.signals import StopSignals
from vllm.cli.supervisor import HeadlessSupervisor, Supervisor
from vllm.config.model_source import DEFAULT_MODEL, resolve
from vllm.config.serve import api_keys, parallel_config, serve_config
from vllm.errors import ExitCode
from vllm.logging import init_logger

logger = init_logger(__name__)


def serve(arguments: argparse.Namespace) -> int:
    """Run until stopped; the exit code. Raises VLLMError for everything a user can set right."""
    signals = StopSignals().install()
    headless = parallel_config(arguments).headless
    if arguments.api_key:
        logger.warning("--api-key shows in the process list; prefer VLLM_API_KEY or --api-key-file")
    api_keys(arguments)
    binary: Path | None = None if headless else frontend_binary.choose()
    if arguments.model is None:
        logger.info("no MODEL given: serving %s", DEFAULT_MODEL)
    source = resolve(
        arguments.model or DEFAULT_MODEL,
        revision=arguments.revision,
        load_format=arguments.load_format,
    )
    config = serve_config(arguments, source)
    if signals.count:
        return int(ExitCode.OK)
    kind = HeadlessSupervisor if headless else Supervisor
    return kind(config, binary, signals).run()
