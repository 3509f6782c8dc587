# SPDX-License-Identifier: Apache-2.0
"""The built frontend serves from engines that speak the wire of vLLM 0.33 and of 0.32.

The engine here is made of plain lists, maps and ZeroMQ sockets and shares no code with either half
of this project, so that a mistake of our codec cannot hide. It follows the field tables of the two
releases: as they are written, with more at every end, and with everything optional left out.
"""

from __future__ import annotations

import contextlib
import json
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from tests.e2e.doubles import Deployment, deployment
from tests.e2e.server import PATIENCE_S, wait_for

FIRST_ID = 64  # of "a"
DEFAULTS_OF_A_LAUNCHER = {
    # What the argument parser of such a server holds when only the model was given.
    "model_tag": None, "api_key": None, "served_model_name": None, "chat_template": None,
    "host": None, "port": 8000, "uds": None, "ssl_keyfile": None, "ssl_certfile": None,
    "ssl_ca_certs": None, "ssl_cert_reqs": 0, "enable_ssl_refresh": False, "root_path": None,
    "middleware": [], "allowed_origins": ["*"], "allowed_methods": ["*"], "allowed_headers": ["*"],
    "allow_credentials": False, "disable_fastapi_docs": False, "enable_request_id_headers": False,
    "enable_log_requests": False, "uvicorn_log_level": "info", "disable_uvicorn_access_log": False,
    "h11_max_header_count": 256, "h11_max_incomplete_event_size": 4194304,
    "chat_template_content_format": "auto", "trust_request_chat_template": False,
    "response_role": "assistant", "lora_modules": None, "enable_auto_tool_choice": False,
    "tool_call_parser": None, "reasoning_parser": "", "max_log_len": None, "max_logprobs": 20,
    "enable_prompt_tokens_details": False, "enable_server_load_tracking": False,
    "generation_config": "auto", "override_generation_config": {}, "data_parallel_size": 1,
    "data_parallel_rank": None, "api_server_count": 1, "headless": False, "dtype": "auto",
    "tensor_parallel_size": 1, "compilation_config": {"mode": None}, "speculative_config": None,
    "shutdown_timeout": 0, "return_tokens_as_token_ids": False, "disable_log_stats": False,
}  # fmt: skip


@dataclass(frozen=True)
class Dialect:
    """How an engine writes: its release, and what it adds or leaves out."""

    version: str
    extra: bool = False  # unknown elements at the end of every array, unknown keys in every map
    bare: bool = False  # nothing optional

    @property
    def has_errors(self) -> bool:
        """Slot 18 of an output came with 0.33."""
        return self.version.startswith("0.33")

    def registration(self, rank: int) -> dict[str, Any]:
        required = {
            "max_model_len": 4096, "num_gpu_blocks": 1000, "block_size": 16, "dtype": "bfloat16",
            "vllm_version": self.version, "world_size": 1, "data_parallel_size": 1,
            "tensor_parallel_size": 1, "pipeline_parallel_size": 1,
            "decode_context_parallel_size": 1, "data_parallel_rank": rank, "max_num_seqs": 64,
            "max_num_batched_tokens": 2048, "instance_id": "scripted", "supports_lora": False,
            "max_loras": 0,
        }  # fmt: skip
        if self.bare:
            return required
        optional = {
            "dp_stats_address": None, "mamba_block_size": None, "kv_cache_size_tokens": 16_000,
            "kv_cache_max_concurrency": 3.9, "kv_events_config": None,
            "weight_transfer_backend": None, "enable_sleep_mode": False,
            "supports_draft_weight_updates": False, "effective_attention_block_size": 16,
            "coord_store_port": 0, "coordinator_input_address": None,
            "coordinator_output_address": None,
        }  # fmt: skip
        return required | optional | self.unknown_keys()

    def unknown_keys(self) -> dict[str, Any]:
        return {"a_key_of_tomorrow": {"nested": [1, None, 2.5]}} if self.extra else {}

    def output(self, request_id: str, tokens: list[int], **slots: Any) -> list[Any]:
        """An `EngineCoreOutput`."""
        names = (
            "request_id", "new_token_ids", "new_logprobs", "new_prompt_logprobs_tensors",
            "pooling_output", "finish_reason", "stop_reason", "events", "kv_transfer_params",
            "ec_transfer_params", "trace_headers", "prefill_stats", "routed_experts",
            "num_nans_in_logits", "mm_cache_miss_hashes", "new_sampling_mask",
            "spec_decode_metrics", "prompt_token_id_logprobs", "error",
        )  # fmt: skip
        values: list[Any] = [request_id, tokens, *(slots.get(name) for name in names[2:])]
        values[13] = 0
        if not self.has_errors:
            values[18] = None
        if self.bare:
            used = [at for at, value in enumerate(values) if value is not None and at != 13]
            return values[: used[-1] + 1]
        if not self.has_errors and not self.extra:
            values.pop()
        return [*values, "tomorrow", {"more": [1]}] if self.extra else values

    def message(
        self, rank: int, outputs: list[Any], utility: Any = None, stats: bool = True
    ) -> list[Any]:
        """An `EngineCoreOutputs`."""
        if self.bare and utility is None:
            return [rank, outputs, None, 12.5]
        values = [rank, outputs, self.stats() if stats else None, 12.5, utility, None, None, None]
        values.append("default")
        return [*values, None, {"tomorrow": 1}] if self.extra else values

    def stats(self) -> dict[str, Any]:
        prefix = {
            "reset": False, "requests": 1, "queries": 3, "hits": 0, "preempted_requests": 0,
            "preempted_queries": 0, "preempted_hits": 0, "hits_by_source": {"device": 0},
        }  # fmt: skip
        return {
            "num_running_reqs": 1, "num_waiting_reqs": 0, "num_skipped_waiting_reqs": 0,
            "num_kv_fetch_reqs_by_stage": {}, "step_counter": 0, "current_wave": 0,
            "kv_cache_usage": 0.01, "iteration_details": None,
            "prefix_cache_stats": prefix | self.unknown_keys(),
            "connector_prefix_cache_stats": None, "kv_cache_eviction_events": [],
            "spec_decoding_stats": None, "kv_connector_stats": None, "ec_connector_stats": None,
            "waiting_lora_adapters": {}, "running_lora_adapters": {}, "cudagraph_stats": None,
            "perf_stats": None, **self.unknown_keys(),
        }  # fmt: skip


DIALECTS = {
    "0.33": Dialect("0.33.0"),
    "0.33, longer": Dialect("0.33.1", extra=True),
    "0.33, bare": Dialect("0.33.0", bare=True),
    "0.32": Dialect("0.32.0"),
    "0.32, longer": Dialect("0.32.0", extra=True),
    "0.32, bare": Dialect("0.32.0", bare=True),
}

Say = Callable[["Engine", list[Any]], None]


@dataclass
class Engine:
    """A thread that registers, says "abc..." to every request, and answers calls."""

    dialect: Dialect
    input: zmq.Socket[bytes]
    output: zmq.Socket[bytes]
    rank: int = 0
    requests: list[list[Any]] = field(default_factory=list)
    aborts: list[str] = field(default_factory=list)
    calls: list[tuple[str, list[Any]]] = field(default_factory=list)
    say: Say | None = None
    methods: dict[str, Any] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        self.input.send(msgspec.msgpack.encode(self.dialect.registration(self.rank)))
        while not self.stop.is_set():
            if not self.input.poll(20):
                continue
            kind, payload, *_ = self.input.recv_multipart()
            message = msgspec.msgpack.decode(payload)
            if kind == b"\x00":
                self.requests.append(message)
                (self.say or say_letters)(self, message)
            elif kind == b"\x01":
                self.aborts += message
            elif kind == b"\x03":
                self.answer(*message)

    def send(self, outputs: list[Any], *buffers: bytes, **parts: Any) -> None:
        message = self.dialect.message(self.rank, outputs, **parts)
        self.output.send_multipart([msgspec.msgpack.encode(message), *buffers])

    def answer(self, _client: int, call_id: int, method: str, args: list[Any]) -> None:
        self.calls.append((method, args))
        if method in self.methods:
            reply = [call_id, None, [None, self.methods[method]]]
        else:
            reply = [call_id, f"'EngineCore' object has no attribute '{method}'", None]
        self.send([], utility=reply, stats=False)


def say_letters(engine: Engine, request: list[Any]) -> None:
    """One letter a message, then the end by length."""
    request_id, params = request[0], request[3]
    count = params["max_tokens"]
    for at in range(count):
        slots: dict[str, Any] = {}
        if at == 0 and not engine.dialect.bare:
            slots["prefill_stats"] = {
                "num_prompt_tokens": len(request[1]), "num_computed_tokens": len(request[1]),
                "num_cached_tokens": 0, "num_local_cached_tokens": 0,
                "num_external_cached_tokens": 0, "num_cache_creation_tokens": len(request[1]),
                **engine.dialect.unknown_keys(),
            }  # fmt: skip
        if at == count - 1:
            slots["finish_reason"] = 1
        engine.send([engine.dialect.output(request_id, [FIRST_ID + at], **slots)])


@contextlib.contextmanager
def engine(running: Deployment, dialect: Dialect) -> Iterator[Engine]:
    context: zmq.Context[Any] = zmq.Context()
    dealer, push = context.socket(zmq.DEALER), context.socket(zmq.PUSH)
    dealer.setsockopt(zmq.IDENTITY, struct.pack("<H", 0))
    dealer.connect(running.planes[0].address)
    push.connect(running.planes[1].address)
    peer = Engine(dialect, dealer, push)
    peer.methods = {"is_sleeping": False}
    thread = threading.Thread(target=peer.run)
    thread.start()
    try:
        running.wait_healthy()
        yield peer
    finally:
        peer.stop.set()
        thread.join(PATIENCE_S)
        context.destroy(linger=0)


@pytest.fixture(params=DIALECTS.values(), ids=DIALECTS.keys())
def pair(request: pytest.FixtureRequest, tiny_model: Path) -> Iterator[tuple[Deployment, Engine]]:
    """A frontend started as other launchers do, and one engine that speaks a dialect."""
    settings = DEFAULTS_OF_A_LAUNCHER | {"model_tag": str(tiny_model)}
    environ = {"VLLM_SERVER_DEV_MODE": "1", "RUST_LOG": "debug"}
    with (
        deployment(tiny_model, 1, environ, inline=True, **settings) as running,
        engine(running, request.param) as peer,
    ):
        yield running, peer


BODY = {"prompt": [1, 2, 3], "max_tokens": 5, "temperature": 0.5, "seed": 7}


def test_requests_out_and_answers_back(pair: tuple[Deployment, Engine]) -> None:
    running, peer = pair
    reply = running.post("/v1/completions", BODY).json()
    (choice,) = reply["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("abcde", "length")
    assert reply["usage"]["prompt_tokens"] == 3
    assert reply["usage"]["completion_tokens"] == 5
    (request,) = peer.requests
    _check_request(request)
    assert "ignoring configuration that is not known here" in running.log
    assert running.log.count("WARN") == (0 if peer.dialect.has_errors else 1), running.log


def _check_request(request: list[Any]) -> None:
    """Every slot has the type that the tables of both releases give it."""
    assert len(request) == 22
    assert isinstance(request[0], str)
    assert request[1] == [1, 2, 3]
    assert request[2] is None
    assert isinstance(request[5], float)
    assert request[6:11] == [None] * 5
    assert request[11:14] == [0, 0, 0]
    assert request[15] is False
    assert request[19] is False
    params = request[3]
    assert params["temperature"] == pytest.approx(0.5)
    assert (params["max_tokens"], params["seed"]) == (5, 7)
    assert params["_eos_token_id"] == 257
    assert 257 in params["_all_stop_token_ids"]


def test_a_stream_brings_every_token(pair: tuple[Deployment, Engine]) -> None:
    running, _ = pair
    text = running.post("/v1/completions", BODY | {"stream": True}).text
    *events, last = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert last == "[DONE]"
    choices = [json.loads(event)["choices"][0] for event in events]
    assert "".join(choice["text"] for choice in choices) == "abcde"
    assert choices[-1]["finish_reason"] == "length"


def test_log_probabilities_inline_and_in_frames(pair: tuple[Deployment, Engine]) -> None:
    running, peer = pair

    def say(engine: Engine, request: list[Any]) -> None:
        ids = struct.pack("<4i", FIRST_ID, FIRST_ID, FIRST_ID + 1, FIRST_ID + 2)
        values = struct.pack("<4f", -0.25, -0.25, -1.5, -3.0)
        inline = [
            ["<i4", [1, 4], msgspec.msgpack.Ext(3, ids)],
            ["<f4", [1, 4], msgspec.msgpack.Ext(3, values)],
            ["<i4", [1], msgspec.msgpack.Ext(3, struct.pack("<i", 1))],
        ]
        in_frames = [["int32", [1, 4], 1], ["float32", [1, 4], 2], ["int64", [1], 3]]
        rest = [] if engine.dialect.bare else [None]
        first = engine.dialect.output(request[0], [FIRST_ID], new_logprobs=inline + rest)
        engine.send([first])
        second = engine.dialect.output(
            request[0], [FIRST_ID], new_logprobs=in_frames + rest, finish_reason=1
        )
        engine.send([second], ids, values, struct.pack("<q", 1))

    peer.say = say
    reply = running.post("/v1/completions", BODY | {"logprobs": 3, "max_tokens": 2}).json()
    logprobs = reply["choices"][0]["logprobs"]
    assert logprobs["tokens"] == ["a", "a"]
    assert logprobs["token_logprobs"] == [-0.25, -0.25]
    assert logprobs["top_logprobs"] == [{"a": -0.25, "b": -1.5, "c": -3.0}] * 2


def test_ends_by_a_stop_token_by_repetition_and_by_abort(pair: tuple[Deployment, Engine]) -> None:
    running, peer = pair
    for reason, stop, said in ((0, 65, "stop"), (0, None, "stop"), (2, None, "abort")):

        def say(
            engine: Engine, request: list[Any], end: tuple[int, int | None] = (reason, stop)
        ) -> None:
            slots = {"finish_reason": end[0], "stop_reason": end[1]}
            engine.send([engine.dialect.output(request[0], [FIRST_ID])])
            engine.send([engine.dialect.output(request[0], [FIRST_ID + 1], **slots)])

        peer.say = say
        reply = running.post("/v1/completions", BODY).json()
        assert reply["choices"][0]["finish_reason"] == said, reply


@pytest.mark.parametrize(
    ("code", "retryable", "status"),
    [("validation_error", False, 400), ("engine_paused", True, 503), ("internal", False, 500)],
)
def test_errors_of_the_engine(
    pair: tuple[Deployment, Engine], code: str, retryable: bool, status: int
) -> None:
    running, peer = pair

    def say(engine: Engine, request: list[Any]) -> None:
        error = {"code": code, "message": "told by the engine", "retryable": retryable}
        error |= engine.dialect.unknown_keys()
        engine.send([engine.dialect.output(request[0], [], finish_reason=3, error=error)])

    peer.say = say
    reply = running.post("/v1/completions", BODY)
    # Before 0.33 an engine has no way to say why.
    assert reply.status_code == (status if peer.dialect.has_errors else 500), reply.text
    peer.say = None
    assert running.post("/v1/completions", BODY).status_code == 200


def test_a_client_that_leaves_is_an_abort(pair: tuple[Deployment, Engine]) -> None:
    running, peer = pair
    peer.say = lambda engine, request: engine.send([engine.dialect.output(request[0], [FIRST_ID])])
    with running.http.stream("POST", "/v1/completions", json=BODY | {"stream": True}) as reply:
        next(reply.iter_lines())
    wait_for(lambda: peer.aborts, "the abort")
    assert peer.aborts == [peer.requests[0][0]]


def test_calls_go_by_the_names_of_the_release(pair: tuple[Deployment, Engine]) -> None:
    running, peer = pair
    pause = "pause_generation" if peer.dialect.has_errors else "pause_scheduler"
    peer.methods |= {
        pause: None, "resume_scheduler": None, "reset_prefix_cache": True,
        "is_scheduler_paused": True,
    }  # fmt: skip
    for method, path in (
        ("POST", "/pause"), ("GET", "/is_paused"), ("POST", "/resume"),
        ("POST", "/reset_prefix_cache"), ("GET", "/is_sleeping"),
    ):  # fmt: skip
        reply = running.http.request(method, path)
        assert reply.status_code == 200, (path, reply.text)
    called = [name for name, _ in peer.calls]
    assert pause in called
    refused = running.http.post("/sleep")
    assert refused.status_code == 500
