# SPDX-License-Identifier: Apache-2.0
"""`python -m vllm.api_server`: the Python frontend as a supervised process.

Takes the same flags as `vllm-rs frontend`: inherited listening sockets, how many engines to wait
for, and the configuration by descriptor.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import socket
import sys
from collections.abc import Sequence
from typing import Any

import uvicorn

from vllm import envs
from vllm import logging as vllm_logging
from vllm.api_server.app import build_app
from vllm.api_server.call import State
from vllm.api_server.metrics import Metrics
from vllm.api_server.model import Model, load_model
from vllm.config.serve import RUST_ONLY
from vllm.errors import ExitCode, UsageError, VLLMError
from vllm.log_lines import open_standard_streams
from vllm.protocol.client import AsyncEngineClient
from vllm.protocol.errors import HandshakeError
from vllm.protocol.listeners import Listener
from vllm.protocol.silence import Patience

logger = vllm_logging.init_logger(__name__)

# For answers that end anyway, with what waits for their readers and, where an engine died, with the
# reason: half a second was too short for twenty of them on a busy machine.
LEAST_GRACE_S = 2.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; the exit code."""
    open_standard_streams()
    options = _parse(arguments)
    try:
        config = _configuration(options)
        vllm_logging.setup("frontend", config.get("log_format", "text"))
        _adopt_uvicorn_log()
        model = load_model(config)
        return asyncio.run(_serve(options, config, model))
    except HandshakeError as error:
        logger.error("%s", error)
        return int(ExitCode.ENGINE_START)
    except VLLMError as error:
        logger.error("%s", error)
        return int(error.exit_code)
    except KeyboardInterrupt:
        return int(ExitCode.OK)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m vllm.api_server", description=__doc__)
    for name in ("listen-fd", "input-listener-fd", "output-listener-fd"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--engine-start-index", type=int, default=0)
    parser.add_argument("--engine-count", type=int, default=1)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--args-fd", type=int, help="descriptor with the JSON configuration")
    source.add_argument("--args-json", help="the same, visible in process lists")
    return parser.parse_args(arguments)


def _configuration(options: argparse.Namespace) -> dict[str, Any]:
    text = options.args_json
    try:
        if text is None:
            with os.fdopen(options.args_fd, "rb") as source:
                text = source.read()
        config = json.loads(text)
    except (OSError, ValueError) as error:
        vllm_logging.setup("frontend")
        raise UsageError(f"the frontend's configuration cannot be read: {error}") from None
    _refuse_rust_only(config)
    return config


def _refuse_rust_only(config: dict[str, Any]) -> None:
    """What only the Rust frontend serves is refused, not ignored."""
    given = [f"--{name.replace('_', '-')}" for name in RUST_ONLY if config.get(name) is not None]
    if given:
        vllm_logging.setup("frontend", config.get("log_format", "text"))
        raise UsageError(
            f"{', '.join(given)}: the Python frontend does not serve this; the Rust frontend does "
            "(VLLM_USE_RUST_FRONTEND=1)"
        )


def _adopt_uvicorn_log() -> None:
    """The HTTP library's warnings as lines of ours."""
    log = logging.getLogger("uvicorn")
    log.handlers[:] = logging.getLogger(vllm_logging.ROOT).handlers
    log.setLevel(logging.WARNING)
    log.propagate = False


def _listener(descriptor: int) -> Listener:
    """An inherited listener; its address only says which transport it speaks."""
    sock = socket.socket(fileno=descriptor)
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return Listener(sock, f"ipc://{name}")
    host = f"[{name[0]}]" if sock.family == socket.AF_INET6 else name[0]
    return Listener(sock, f"tcp://{host}:{name[1]}")


async def _serve(options: argparse.Namespace, config: dict[str, Any], model: Model) -> int:
    client = await AsyncEngineClient.connect(
        input=_listener(options.input_listener_fd),
        output=_listener(options.output_listener_fd),
        engine_start_index=options.engine_start_index,
        engine_count=options.engine_count,
        ready_timeout=envs.VLLM_ENGINE_READY_TIMEOUT_S,
        patience=Patience(
            config.get("engine_silence_timeout", 6.0), config.get("engine_prompt_timeout", 300.0)
        ),
    )
    async with client:
        model.context = client.registration.max_model_len
        server = uvicorn.Server(_uvicorn(config, _state(config, model, client)))
        await server.serve(sockets=[socket.socket(fileno=options.listen_fd)])
    return int(ExitCode.OK)


def _state(config: dict[str, Any], model: Model, client: AsyncEngineClient) -> State:
    return State(
        model=model,
        client=client,
        metrics=Metrics(model.name),
        max_body=config.get("max_request_body_size", 32 << 20),
        max_logprobs=config.get("max_logprobs", 20),
        thinking_budgets=config.get("reasoning_config") is not None,
        keys=tuple(config.get("api_key") or ()),
        public_metrics=config.get("public_metrics", False),
        prompt_tokens_details=config.get("enable_prompt_tokens_details", False),
        id_headers=config.get("enable_request_id_headers", False),
    )


def _uvicorn(config: dict[str, Any], state: State) -> uvicorn.Config:
    return uvicorn.Config(
        build_app(state),
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_keep_alive=_keep_alive(config),
        timeout_graceful_shutdown=_grace(config),
    )


# The library takes fractions of these seconds, its annotations do not say so.
def _keep_alive(config: dict[str, Any]) -> Any:
    """Seconds that an idle connection is kept."""
    return config.get("http_timeout_keep_alive", 5.0)


def _grace(config: dict[str, Any]) -> Any:
    """Seconds for running answers."""
    return max(config.get("shutdown_timeout", 0), LEAST_GRACE_S)


if __name__ == "__main__":
    sys.exit(main())
