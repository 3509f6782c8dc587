# SPDX-License-Identifier: Apache-2.0
"""`vllm serve`: everything is checked that can be checked, then the processes are started."""

from __future__ import annotations

import argparse
from pathlib import Path

from vllm.cli import descriptors, frontend_binary
from vllm.cli.signals import StopSignals
from vllm.cli.supervisor import HeadlessSupervisor, Supervisor
from vllm.config.model_length import check_model
from vllm.config.model_source import DEFAULT_MODEL, resolve
from vllm.config.serve import ParallelConfig, api_keys, parallel_config, serve_config
from vllm.logging import init_logger

logger = init_logger(__name__)


def serve(arguments: argparse.Namespace) -> int:
    """Run until stopped; the exit code. Raises VLLMError for everything a user can set right."""
    signals = StopSignals().install()
    descriptors.raise_limit()
    headless = parallel_config(arguments).headless
    if arguments.api_key:
        logger.warning("--api-key shows in the process list; prefer VLLM_API_KEY or --api-key-file")
    api_keys(arguments)
    binary: Path | None = None if headless else frontend_binary.choose()
    if arguments.model is None:
        logger.info("no MODEL given: serving %s", DEFAULT_MODEL)
    try:
        with signals.interrupting():  # a download may take minutes
            source = resolve(
                DEFAULT_MODEL if arguments.model is None else arguments.model,
                revision=arguments.revision,
                load_format=arguments.load_format,
            )
    except KeyboardInterrupt:
        logger.info("stopping on %s before the model was there", signals.first_name)
        return signals.exit_code
    check_model(source)
    config = serve_config(arguments, source)
    return _supervisor(config.parallel)(config, binary, signals).run()


def _supervisor(parallel: ParallelConfig) -> type[Supervisor]:
    if parallel.ray:
        from vllm.cli.ray_supervisor import RaySupervisor  # noqa: PLC0415 (nobody else needs it)

        return RaySupervisor
    return HeadlessSupervisor if parallel.headless else Supervisor
