# SPDX-License-Identifier: Apache-2.0
"""What `vllm serve` was asked for: flags and environment met, as frozen values.

Owns which value goes to the engine, to the frontend and to the launcher, and the checks that need
more than one flag. Must not know processes or sockets.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vllm import envs
from vllm.config.engine import EngineConfig
from vllm.config.model_length import check_length
from vllm.config.model_source import ModelSource
from vllm.errors import UsageError

DEFAULT_RPC_PORT = 29550
MAX_ENGINES = 65_536  # an engine's id has two bytes on the wire
MIN_LOCAL_ENGINES = 8  # may share fewer CPUs: small models, tests
_ENGINE_FLAGS = {
    "dtype": "dtype",
    "kv_cache_dtype": "kv_cache_dtype",
    "max_model_len": "max_model_len",
    "max_num_seqs": "max_num_seqs",
    "max_num_batched_tokens": "max_num_batched_tokens",
    "max_logprobs": "max_logprobs",
    "block_size": "block_size",
    "scheduling_policy": "scheduling_policy",
    "kv_cache_memory_bytes": "kv_cache_memory",
    "gpu_memory_utilization": "gpu_memory_utilization",
    "enforce_eager": "enforce_eager",
    "num_threads": "num_threads",
    "seed": "seed",
    "device": "device",
    "load_format": "load_format",
    "dequantize": "dequantize",
    "tensor_parallel_size": "tensor_parallel_size",
}


# Flags that the Rust frontend serves and the reference frontend refuses.
RUST_ONLY = (
    "drain_grace",
    "max_num_queued_reqs",
    "max_num_queued_tokens",
    "enable_scale_out",
    "strict_fields",
    "no_prefix_affinity",
    "stream_interval",
    "sse_keep_alive_interval",
    "trust_request_chat_template",
    "disable_web_ui",
    "allowed_origins",
    "allowed_methods",
    "allowed_headers",
    "allow_credentials",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_ca_certs",
    "ssl_cert_reqs",
)


@dataclass(frozen=True)
class HTTPConfig:
    """Where to listen: a Unix socket at `uds`, else `host` and `port` (0: any free one)."""

    host: str = "127.0.0.1"
    port: int = 8000
    uds: str | None = None
    tls: bool = False


@dataclass(frozen=True)
class FrontendConfig:
    """What a frontend is told, by descriptor. Keys are named as other launchers of this protocol
    do.

    `model` is a path on this machine, `model_tag` MODEL as given; `chat_template` is a template's
    text; `api_key` holds the accepted keys, none meaning that no key is asked for.
    """

    model: str
    model_tag: str
    served_model_name: tuple[str, ...]
    api_key: tuple[str, ...] = field(default=(), repr=False)
    chat_template: str | None = None
    generation_config: str = "auto"
    max_logprobs: int = 20
    reasoning_config: dict[str, str] | None = None
    shutdown_timeout: float = 0.0
    drain_grace: float | None = None
    engine_silence_timeout: float = 6.0
    engine_prompt_timeout: float = 300.0
    max_request_body_size: int = 32 << 20
    http_timeout_keep_alive: float = 5.0
    public_metrics: bool = False
    enable_request_id_headers: bool = False
    enable_prompt_tokens_details: bool = False
    log_format: str = "text"
    max_num_queued_reqs: int | None = None
    max_num_queued_tokens: int | None = None
    enable_scale_out: bool | None = None
    strict_fields: bool | None = None
    no_prefix_affinity: bool | None = None
    stream_interval: int | None = None
    sse_keep_alive_interval: float | None = None
    trust_request_chat_template: bool | None = None
    disable_web_ui: bool | None = None
    allowed_origins: list[str] | None = None
    allowed_methods: list[str] | None = None
    allowed_headers: list[str] | None = None
    allow_credentials: bool | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_ca_certs: str | None = None
    ssl_cert_reqs: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As a JSON object; unset values are left out."""
        values = {**vars(self)}
        values["served_model_name"] = list(self.served_model_name)
        values["api_key"] = list(self.api_key)
        return {key: value for key, value in values.items() if value is not None}


@dataclass(frozen=True)
class ParallelConfig:
    """How many engines there are, and which of them are started here (with `ray`: none)."""

    size: int = 1
    size_local: int = 1
    start_rank: int = 0
    address: str = "127.0.0.1"
    rpc_port: int = DEFAULT_RPC_PORT
    headless: bool = False
    ray: bool = False

    @property
    def local_ranks(self) -> range:
        return range(self.start_rank, self.start_rank + self.size_local)

    @property
    def has_remote_engines(self) -> bool:
        return self.size_local < self.size


@dataclass(frozen=True)
class ServeConfig:
    """Everything a start needs; `frontend` is unused when `parallel.headless`."""

    http: HTTPConfig
    frontend: FrontendConfig
    engine: EngineConfig
    parallel: ParallelConfig
    ready_timeout: float
    engine_restarts: int = 3


def serve_config(arguments: argparse.Namespace, source: ModelSource) -> ServeConfig:
    """Put flags, environment and the model that was found together. Raises UsageError, and
    ModelError for a length that the model does not have.
    """
    engine = _engine(arguments, source)
    if engine.max_model_len is not None:
        check_length(source, engine.max_model_len)
    return ServeConfig(
        http=HTTPConfig(
            arguments.host, arguments.port, arguments.uds, arguments.ssl_certfile is not None
        ),
        frontend=_frontend(arguments, source, engine.max_logprobs),
        engine=engine,
        parallel=parallel_config(arguments),
        ready_timeout=envs.VLLM_ENGINE_READY_TIMEOUT_S,
        engine_restarts=arguments.engine_restarts,
    )


def _engine(arguments: argparse.Namespace, source: ModelSource) -> EngineConfig:
    given = {name: getattr(arguments, flag) for flag, name in _ENGINE_FLAGS.items()}
    known = {name: value for name, value in given.items() if value is not None}
    known["enable_prefix_caching"] = _prefix_caching(arguments)
    if arguments.reasoning_config is not None:
        known |= _thinking(arguments.reasoning_config, source)
    try:
        return EngineConfig(
            model=str(source.path), served_model_name=served_names(arguments, source)[0], **known
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


def _thinking(marks: dict[str, str], source: ModelSource) -> dict[str, tuple[int, ...]]:
    """The marks as the model's own token ids: engines know no text."""
    from vllm.text.tokenizer import load_tokenizer  # noqa: PLC0415 - few starts need it

    tokenizer = load_tokenizer(source.path)
    ids = {
        name: tuple(tokenizer.encode(marks[f"reasoning_{name}_str"], add_special_tokens=False))
        for name in ("start", "end")
    }
    if not all(ids.values()):
        raise UsageError(f"--reasoning-config: {marks} has a mark without tokens in this model")
    return {f"thinking_{name}": found for name, found in ids.items()}


def _prefix_caching(arguments: argparse.Namespace) -> bool:
    if arguments.enable_prefix_caching and arguments.no_enable_prefix_caching:
        raise UsageError(
            "--enable-prefix-caching and --no-enable-prefix-caching exclude each other"
        )
    return not arguments.no_enable_prefix_caching


def served_names(arguments: argparse.Namespace, source: ModelSource) -> tuple[str, ...]:
    """The names clients may use."""
    return tuple(arguments.served_model_name or (source.name,))


def _frontend(
    arguments: argparse.Namespace, source: ModelSource, max_logprobs: int
) -> FrontendConfig:
    body_size = arguments.max_request_body_size
    return FrontendConfig(
        model=str(source.path),
        model_tag=source.name,
        served_model_name=served_names(arguments, source),
        api_key=api_keys(arguments),
        chat_template=_template(arguments.chat_template),
        generation_config=arguments.generation_config,
        max_logprobs=max_logprobs,
        reasoning_config=arguments.reasoning_config,
        shutdown_timeout=arguments.shutdown_timeout,
        engine_silence_timeout=arguments.engine_silence_timeout,
        engine_prompt_timeout=arguments.engine_prompt_timeout,
        max_request_body_size=body_size or envs.VLLM_HTTP_MAX_REQUEST_BODY_SIZE,
        http_timeout_keep_alive=envs.VLLM_HTTP_TIMEOUT_KEEP_ALIVE,
        public_metrics=arguments.public_metrics,
        enable_request_id_headers=arguments.enable_request_id_headers,
        enable_prompt_tokens_details=arguments.enable_prompt_tokens_details,
        log_format=arguments.log_format,
        **{name: _given(arguments, name) for name in RUST_ONLY},
    )


def _given(arguments: argparse.Namespace, name: str) -> Any:
    """A flag's value; None where it was left out, also for a switch."""
    value = getattr(arguments, name)
    return None if value is False else value


def api_keys(arguments: argparse.Namespace) -> tuple[str, ...]:
    """Keys of the flag, the file and the environment together."""
    keys = list(arguments.api_key or ())
    if arguments.api_key_file:
        keys += _key_file(Path(arguments.api_key_file))
    if not all(keys):
        raise UsageError("--api-key must not be empty")
    if envs.VLLM_API_KEY is not None:
        keys.append(envs.VLLM_API_KEY)
    return tuple(dict.fromkeys(keys))


def _key_file(path: Path) -> list[str]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()  # some editors put a mark in front
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--api-key-file {path}: {getattr(error, 'strerror', error)}") from None
    keys = [key for line in lines if (key := line.strip()) and not key.startswith("#")]
    if not keys:
        raise UsageError(f"--api-key-file {path} holds no key")
    return keys


def _template(given: str | None) -> str | None:
    """A file's text; text with braces or line breaks is a template itself."""
    if given is None or "{" in given or "\n" in given:
        return given
    try:
        return Path(given).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--chat-template {given}: {getattr(error, 'strerror', error)}") from None


def _check_engine_counts(size: int, local: int, ranks: int) -> None:
    """A number with a digit too many must not fill the machine with processes: here `local` engines
    of `ranks` each.
    """
    if size > MAX_ENGINES:
        raise UsageError(f"--data-parallel-size is {size}, at most {MAX_ENGINES} engines have ids")
    cpus = len(os.sched_getaffinity(0))
    most = max(MIN_LOCAL_ENGINES, cpus)
    if local * ranks <= most:
        return
    if ranks > most:
        raise UsageError(
            f"--tensor-parallel-size is {ranks}, but this host has {cpus} CPUs: at most {most} "
            "processes can start here"
        )
    each = f" of {ranks} ranks" if ranks > 1 else ""
    raise UsageError(
        f"{local} engines{each} on this host, which has {cpus} CPUs: at most {most // ranks} can "
        "start here; lower --data-parallel-size, or --data-parallel-size-local with engines on "
        "other hosts"
    )


def parallel_config(arguments: argparse.Namespace) -> ParallelConfig:
    """How many engines, where. Raises UsageError for counts that do not fit together."""
    if arguments.distributed_executor_backend == "ray":
        return _on_ray(arguments)
    size, start = arguments.data_parallel_size, arguments.data_parallel_start_rank
    local = arguments.data_parallel_size_local
    local = size - start if local is None else local
    if start + local > size:
        raise UsageError(
            f"--data-parallel-start-rank {start} and --data-parallel-size-local {local} "
            f"reach beyond --data-parallel-size {size}"
        )
    if arguments.headless and local < 1:
        raise UsageError("--headless starts engines, but --data-parallel-size-local is 0")
    if start and not arguments.headless:
        raise UsageError(
            "--data-parallel-start-rank needs --headless: rank 0 is the frontend's host"
        )
    _check_engine_counts(size, local, arguments.tensor_parallel_size)
    port = arguments.data_parallel_rpc_port
    return ParallelConfig(
        size=size,
        size_local=local,
        start_rank=start,
        address=arguments.data_parallel_address,
        rpc_port=DEFAULT_RPC_PORT if port is None else port,
        headless=arguments.headless,
    )


def _on_ray(arguments: argparse.Namespace) -> ParallelConfig:
    """The cluster decides where engines are; they connect to any free port here."""
    for name in ("headless", "data_parallel_size_local", "data_parallel_start_rank"):
        if getattr(arguments, name):
            flag = name.replace("_", "-")
            raise UsageError(
                f"--{flag} says which engines are started on a host, and with "
                "--distributed-executor-backend ray the cluster decides that"
            )
    _check_engine_counts(arguments.data_parallel_size, 0, arguments.tensor_parallel_size)
    return ParallelConfig(
        size=arguments.data_parallel_size,
        size_local=0,
        address=arguments.data_parallel_address,
        rpc_port=arguments.data_parallel_rpc_port or 0,
        ray=True,
    )
