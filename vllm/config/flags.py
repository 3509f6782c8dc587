# SPDX-License-Identifier: Apache-2.0
"""The table of `vllm serve` flags: those that do something, and those known elsewhere and refused.

The parser, the help text and the refusals read this table and nothing else. Defaults are the same
in every way of starting. Must not know how values are used.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vllm.envs import parse_size

MAX_STREAM_INTERVAL = 1024


@dataclass(frozen=True)
class Flag:
    """One served flag. `kind` turns text into the value (None: a switch); `many` collects
    values.
    """

    name: str
    group: str
    help: str
    kind: Callable[[str], Any] | None = str
    default: Any = None
    choices: tuple[str, ...] = ()
    many: str = ""  # "": once; "append": repeatable; "+": several values after one flag
    metavar: str | None = None


@dataclass(frozen=True)
class Refused:
    """A flag of other servers of this kind that is not served; `neutral` values ask for nothing."""

    name: str
    reason: str
    neutral: tuple[str, ...] = ()


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError("seconds, at least 0, are needed")
    return value


def _seconds_if_any(text: str) -> float | None:
    return _seconds(text) or None


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise ValueError("a port is from 0 (any free one) to 65535")
    return value


def _path(text: str) -> str:
    if not text:
        raise ValueError("a path is needed")
    return text


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError("a whole number of at least 1 is needed")
    return value


def _limit(text: str) -> int:
    value = int(text)
    if value < -1:
        raise ValueError("-1 (no limit), 0 or more is needed")
    return value


def _interval(text: str) -> int:
    value = int(text)
    if not 1 <= value <= MAX_STREAM_INTERVAL:
        raise ValueError(f"a whole number from 1 to {MAX_STREAM_INTERVAL} is needed")
    return value


def _texts(text: str) -> list[str]:
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError('a JSON list of texts is needed, as ["https://example.org"]')
    return values


def _requirement(text: str) -> int:
    value = int(text)
    if value not in (0, 1, 2):
        raise ValueError("0 (no), 1 (optional) or 2 (required) is needed")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise ValueError("a number above 0 and at most 1 is needed")
    return value


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError("a whole number of at least 0 is needed")
    return value


def _reasoning(text: str) -> dict[str, str]:
    """The marks around a thought, both of them."""
    names = ("reasoning_start_str", "reasoning_end_str")
    try:
        marks = json.loads(text)
    except ValueError:
        marks = None
    if not isinstance(marks, dict) or set(marks) != set(names):
        raise ValueError(f"a JSON object with {' and '.join(names)} is needed, and nothing else")
    if not all(isinstance(mark, str) and mark for mark in marks.values()):
        raise ValueError(f"{' and '.join(names)} must be texts that are not empty")
    return marks


_DTYPES = ("auto", "float32", "float16", "bfloat16")

SERVED: tuple[Flag, ...] = (
    # --- HTTP
    Flag("host", "HTTP", "address to listen on", default="127.0.0.1"),
    Flag("port", "HTTP", "port to listen on; 0: any free one", _port, 8000),
    Flag(
        "uds",
        "HTTP",
        "listen on a Unix socket at PATH instead of host and port",
        _path,
        metavar="PATH",
    ),
    Flag(
        "served-model-name",
        "HTTP",
        "names clients may use; the first one is shown; default: MODEL as given",
        many="+",
        metavar="NAME",
    ),
    Flag(
        "api-key",
        "HTTP",
        "key that clients must send; repeatable; shows in the process list of this command, so "
        "VLLM_API_KEY or --api-key-file is better",
        many="append",
        metavar="KEY",
    ),
    Flag(
        "api-key-file",
        "HTTP",
        "file with one key per line; blank lines and lines that begin with # are none",
        metavar="PATH",
    ),
    Flag(
        "max-request-body-size",
        "HTTP",
        "largest accepted body in bytes, with a unit if you like (32MiB)",
        parse_size,
        metavar="SIZE",
    ),
    Flag(
        "max-num-queued-reqs",
        "HTTP",
        "requests that may wait beyond what the engines run at once, counted per choice; -1: no "
        "limit",
        _limit,
    ),
    Flag(
        "max-num-queued-tokens",
        "HTTP",
        "prompt tokens of requests that may wait; -1: no limit",
        _limit,
    ),
    Flag(
        "shutdown-timeout",
        "HTTP",
        "seconds that running requests get to finish after the first SIGTERM or SIGINT",
        _seconds,
        0.0,
        metavar="SECONDS",
    ),
    Flag(
        "drain-grace",
        "HTTP",
        "seconds after that signal in which /ready says 503 and requests are still taken, before "
        "the seconds of --shutdown-timeout begin; default: 0",
        _seconds,
        metavar="SECONDS",
    ),
    Flag(
        "engine-silence-timeout",
        "HTTP",
        "seconds an engine may show no sign of life before its requests fail; 0: any time",
        _seconds,
        6.0,
        metavar="SECONDS",
    ),
    Flag(
        "engine-prompt-timeout",
        "HTTP",
        "the same while the engine may work on a prompt, whose steps take long",
        _seconds,
        300.0,
        metavar="SECONDS",
    ),
    Flag(
        "allowed-origins",
        "HTTP",
        'origins of pages that may use the server from a browser, as a JSON list; ["*"]: all',
        _texts,
        metavar="JSON",
    ),
    Flag(
        "allowed-methods",
        "HTTP",
        'methods that such pages may use, as a JSON list; default: ["*"]',
        _texts,
        metavar="JSON",
    ),
    Flag(
        "allowed-headers",
        "HTTP",
        'headers that such pages may send, as a JSON list; default: ["*"]',
        _texts,
        metavar="JSON",
    ),
    Flag(
        "allow-credentials",
        "HTTP",
        "such pages may send the browser's own credentials",
        kind=None,
    ),
    Flag(
        "ssl-certfile",
        "HTTP",
        "file with the certificate chain; connections are then encrypted, and the file is read "
        "again when it changes",
        metavar="PATH",
    ),
    Flag("ssl-keyfile", "HTTP", "file with the certificate's private key", metavar="PATH"),
    Flag(
        "ssl-ca-certs", "HTTP", "file with the authorities of clients' certificates", metavar="PATH"
    ),
    Flag(
        "ssl-cert-reqs",
        "HTTP",
        "clients' certificates: 0 no, 1 optional, 2 required",
        _requirement,
    ),
    Flag(
        "strict-fields",
        "HTTP",
        "refuse request fields that are not known instead of ignoring them",
        kind=None,
    ),
    Flag(
        "no-prefix-affinity",
        "HTTP",
        "several engines: the shortest queue alone decides, not where a prompt's beginning was "
        "computed",
        kind=None,
    ),
    Flag(
        "stream-interval",
        "HTTP",
        "tokens per event of a stream after the first one, unless a request says so; default: 1",
        _interval,
    ),
    Flag(
        "sse-keep-alive-interval",
        "HTTP",
        "seconds of silence after which a stream sends a comment, for proxies that close idle "
        "connections; 0: never",
        _seconds_if_any,
        metavar="SECONDS",
    ),
    Flag(
        "enable-scale-out",
        "HTTP",
        "serve /inference/v1/generate: token ids in, token ids out",
        kind=None,
    ),
    Flag(
        "trust-request-chat-template",
        "HTTP",
        "let requests bring a chat template of their own; only for clients you trust: each starts "
        "a process",
        kind=None,
    ),
    Flag(
        "enable-prompt-tokens-details",
        "HTTP",
        "say in the usage how many prompt tokens were found in the prefix cache",
        kind=None,
    ),
    Flag("disable-web-ui", "HTTP", "serve no page at /", kind=None),
    Flag("public-metrics", "HTTP", "/metrics needs no key", kind=None),
    Flag("enable-request-id-headers", "HTTP", "answers carry the id in X-Request-Id", kind=None),
    Flag("log-format", "HTTP", "form of the log lines", default="text", choices=("text", "json")),
    # --- model
    Flag(
        "config",
        "model",
        "YAML file of flags and their values, as `port: 8000`, and of MODEL as `model`; the "
        "command line wins",
        metavar="PATH",
    ),
    Flag("revision", "model", "branch, tag or commit of ORG/NAME"),
    Flag("chat-template", "model", "file with a Jinja chat template, or the template itself"),
    Flag(
        "generation-config",
        "model",
        "auto: sampling defaults of the model's author; vllm: neutral ones",
        default="auto",
        choices=("auto", "vllm"),
    ),
    Flag(
        "load-format", "model", "dummy: random weights", default="auto", choices=("auto", "dummy")
    ),
    Flag("dtype", "model", "type of dense weights", default="auto", choices=_DTYPES),
    Flag("kv-cache-dtype", "model", "type of the KV cache", default="auto", choices=_DTYPES),
    Flag("dequantize", "model", "reference mode: weights and KV cache in float32", kind=None),
    Flag("max-model-len", "model", "longest prompt plus output in tokens", _positive),
    Flag(
        "reasoning-config",
        "model",
        "marks around a model's thoughts, for thinking_token_budget, as "
        '{"reasoning_start_str": "<think>", "reasoning_end_str": "</think>"}',
        _reasoning,
        metavar="JSON",
    ),
    Flag("max-logprobs", "model", "most log probabilities per token; -1: no limit", int),
    # --- engine
    Flag("device", "engine", "where to compute", default="auto", choices=("auto", "cpu", "cuda")),
    Flag("max-num-seqs", "engine", "requests that run at the same time", _positive),
    Flag("max-num-batched-tokens", "engine", "tokens computed per step", _positive),
    Flag("block-size", "engine", "tokens per KV cache block", _positive),
    Flag(
        "kv-cache-memory-bytes",
        "engine",
        "memory of the KV cache, with a unit if you like (2GiB); of each rank",
        parse_size,
        metavar="SIZE",
    ),
    Flag(
        "gpu-memory-utilization",
        "engine",
        "share of a GPU's memory that may be in use once the KV cache is there, other processes "
        "included; without effect beside --kv-cache-memory-bytes; default: 0.9",
        _share,
        metavar="SHARE",
    ),
    Flag(
        "enforce-eager",
        "engine",
        "compute decode steps call by call, never as a recording or a CUDA graph",
        kind=None,
    ),
    Flag(
        "scheduling-policy",
        "engine",
        "priority: requests of a lower `priority` first, then in order of arrival; fcfs: in order "
        "of arrival, requests that ask for a priority are refused",
        default="priority",
        choices=("priority", "fcfs"),
    ),
    Flag(
        "enable-prefix-caching",
        "engine",
        "begin requests with the computed blocks of others that began alike (the default)",
        kind=None,
    ),
    Flag("no-enable-prefix-caching", "engine", "compute every prompt from its start", kind=None),
    Flag("num-threads", "engine", "threads of the CPU kernels, of each rank", _positive),
    Flag("seed", "engine", "requests without a seed draw theirs from this one", int),
    Flag(
        "engine-restarts",
        "engine",
        "times an engine that died is started again within ten minutes; 0: its end ends everything",
        _natural,
        3,
    ),
    # --- several processes, devices and hosts
    Flag(
        "tensor-parallel-size",
        "parallel",
        "processes, each with a device of its own or a share of the CPUs, that compute every layer "
        "of an engine together",
        _positive,
        1,
    ),
    Flag(
        "distributed-executor-backend",
        "parallel",
        "mp: engines and their ranks are processes of this host, and of those with --headless; "
        "ray: they are placed on the nodes of a Ray cluster (RAY_ADDRESS, else the one here)",
        default="mp",
        choices=("mp", "ray"),
    ),
    Flag("headless", "parallel", "start engines only; a frontend runs elsewhere", kind=None),
    Flag("data-parallel-size", "parallel", "engines in total", _positive, 1),
    Flag("data-parallel-size-local", "parallel", "engines on this host; default: all", _natural),
    Flag("data-parallel-start-rank", "parallel", "rank of the first engine here", _natural, 0),
    Flag("data-parallel-address", "parallel", "host of the frontend", default="127.0.0.1"),
    Flag("data-parallel-rpc-port", "parallel", "port of the handshake there", _port),
)

_ONE = ("1",)
_OFF = ("false", "False", "no")
_TOOLS = "tool calls are not served yet"
_REASONING = "thoughts are not told from answers yet"
_MEDIA = "only text goes in and comes out"
_LORA = "adapters are not served yet"
_SPEC = "speculative decoding is not served"
_BALANCE = "one frontend balances over all engines"
_COMPILE = "nothing is compiled at start; --enforce-eager turns recorded steps off"
_MOE = "every rank has a part of each expert"
_HUB = "the model's own files are used"
_STRUCTURED = "structured output is not served yet"
_LOG = "log lines cannot be chosen this way yet; VLLM_LOGGING_LEVEL sets the level"
_CACHE = "this KV cache feature is not served yet"
_OUTPUT = "this response option is not served yet"


def _rows(reason: str, *names: str, neutral: tuple[str, ...] = ()) -> tuple[Refused, ...]:
    return tuple(Refused(name, reason, neutral) for name in names)


REFUSED: tuple[Refused, ...] = (
    *_rows("models are found by MODEL alone; name it as the first argument", "model"),
    *_rows("gRPC is not served yet", "grpc", "grpc-port"),
    *_rows(_TOOLS, "enable-auto-tool-choice", "tool-call-parser", "tool-parser-plugin"),
    *_rows(_TOOLS, "tool-server", "tool-strict-level", "exclude-tools-when-tool-choice-none"),
    *_rows(_REASONING, "reasoning-parser", "reasoning-parser-plugin", "enable-reasoning"),
    *_rows("rustls has safe ciphers only and no others to choose", "ssl-ciphers"),
    *_rows(
        "changed certificates are always read again", "enable-ssl-refresh", neutral=("", "true")
    ),
    *_rows("route prefixes are not served", "root-path", "middleware"),
    *_rows(_MEDIA, "limit-mm-per-prompt", "mm-processor-kwargs", "media-io-kwargs"),
    *_rows(_MEDIA, "allowed-local-media-path", "allowed-media-domains", "mm-processor-cache-gb"),
    *_rows(_MEDIA, "mm-processor-cache-type", "mm-encoder-tp-mode", "skip-mm-profiling"),
    *_rows(_MEDIA, "mm-hasher-algorithm", "mm-tensor-ipc", "interleave-mm-strings"),
    *_rows(_MEDIA, "trust-request-mm-kwargs", "enable-prompt-embeds", "video-pruning-rate"),
    *_rows(_LORA, "enable-lora", "lora-modules", "max-loras", "max-lora-rank", "max-cpu-loras"),
    *_rows(_LORA, "lora-dtype", "fully-sharded-loras", "default-mm-loras"),
    *_rows(_SPEC, "speculative-config", "speculative-model", "num-speculative-tokens"),
    *_rows(
        "ranks split each layer, see --tensor-parallel-size", "pipeline-parallel-size", neutral=_ONE
    ),
    *_rows(
        "ranks split each layer, see --tensor-parallel-size",
        "decode-context-parallel-size",
        neutral=_ONE,
    ),
    *_rows(_MOE, "enable-expert-parallel", "enable-eplb", "all2all-backend", "moe-backend"),
    *_rows(_MOE, "enable-elastic-ep", "eplb-config", "expert-placement-strategy"),
    *_rows(_BALANCE, "data-parallel-rank", "data-parallel-hybrid-lb", "data-parallel-external-lb"),
    *_rows(_BALANCE, "data-parallel-backend", "api-server-count", "nnodes", "node-rank"),
    *_rows("a dead engine is started again, see --engine-restarts", "enable-fault-tolerance"),
    *_rows(_COMPILE, "compilation-config", "cudagraph-capture-sizes", "max-cudagraph-capture-size"),
    *_rows("weights stay as the file stores them", "quantization", "quantization-param-path"),
    *_rows(
        _HUB, "tokenizer", "tokenizer-mode", "tokenizer-revision", "hf-config-path", "hf-overrides"
    ),
    *_rows(_HUB, "code-revision", "config-format", "model-impl", "skip-tokenizer-init", "hf-token"),
    *_rows("no code of a model is run", "trust-remote-code", neutral=_OFF),
    *_rows("files are found in the hub's own cache folder; HF_HOME moves it", "download-dir"),
    *_rows(
        _STRUCTURED, "structured-outputs-config", "guided-decoding-backend", "logits-processors"
    ),
    *_rows(_CACHE, "prefix-caching-hash-algo", "kv-transfer-config", "kv-events-config"),
    *_rows(_CACHE, "calculate-kv-scales", "kv-offloading-size", "swap-space", "cpu-offload-gb"),
    *_rows(
        "--kv-cache-memory-bytes sets the memory",
        "num-gpu-blocks-override",
    ),
    *_rows("prompts are always chunked", "enable-chunked-prefill", neutral=("", "true", "True")),
    *_rows("steps are not overlapped yet", "async-scheduling", neutral=_OFF),
    *_rows("only generation is served", "task", "runner", neutral=("auto", "generate")),
    *_rows("only generation is served", "convert", "pooler-config", "override-pooler-config"),
    *_rows("give the fields in the request", "override-generation-config", neutral=("{}",)),
    *_rows(
        "templates get each request's own variables",
        "default-chat-template-kwargs",
        neutral=("{}",),
    ),
    *_rows("found from the template", "chat-template-content-format", neutral=("auto",)),
    *_rows("the role is assistant", "response-role", neutral=("assistant",)),
    *_rows(_OUTPUT, "return-tokens-as-token-ids", "enable-force-include-usage", neutral=_OFF),
    *_rows(_OUTPUT, "enable-per-request-metrics", neutral=_OFF),
    *_rows("/load always shows it", "enable-server-load-tracking", neutral=("", "true", *_OFF)),
    *_rows(_OUTPUT, "enable-tokenizer-info-endpoint", neutral=_OFF),
    *_rows("this route is not served yet", "tokens-only"),
    *_rows("VLLM_SERVER_DEV_MODE=1 opens /sleep", "enable-sleep-mode"),
    *_rows("traces are not exported yet", "otlp-traces-endpoint", "collect-detailed-traces"),
    *_rows("profiles are not taken yet", "profiler-config", "enable-layerwise-nvtx-tracing"),
    *_rows(_LOG, "log-config-file", "uvicorn-log-level", "max-log-len", "enable-log-requests"),
    *_rows(
        _LOG, "enable-log-outputs", "enable-log-deltas", "disable-log-requests", "disable-log-stats"
    ),
    *_rows(_LOG, "disable-uvicorn-access-log", "disable-access-log-for-endpoints"),
    *_rows("buckets are fixed", "custom-histogram-buckets", neutral=("{}",)),
    *_rows("fixed limits apply", "h11-max-incomplete-event-size", "h11-max-header-count"),
    *_rows("VLLM_HTTP_TIMEOUT_KEEP_ALIVE sets it", "http-timeout-keep-alive"),
    *_rows("VLLM_ENGINE_READY_TIMEOUT_S sets it", "engine-ready-timeout-secs"),
    *_rows("plug-ins are not loaded", "io-processor-plugin", "worker-cls", "worker-extension-cls"),
    *_rows("this layer is configured by its own flags", "additional-config", "attention-backend"),
)
