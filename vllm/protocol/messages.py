# SPDX-License-Identifier: Apache-2.0
"""One type for every message between frontend and engine.

Owns names, order, types and defaults of the fields. Must not know bytes (``codec`` does), sockets
or scheduling. Classes marked *array* travel as positional arrays and always with every slot; the
others as maps. A reader takes arrays that are shorter (missing slots get their default) or longer
(the rest is ignored) and skips unknown keys.
"""

from __future__ import annotations

from enum import IntEnum
from math import prod
from typing import Any, Literal

import msgspec
import numpy as np

from vllm.protocol.errors import VALIDATION_ERROR
from vllm.sampling.params import SamplingParams

ENGINE_CORE_DEAD = b"ENGINE_CORE_DEAD"
"""The single frame an engine sends to its frontends before it ends because of an exception."""

COORDINATOR_READY = b"READY"
"""The single frame that lets engines pass the coordinator's start-up gate."""


class RequestType(IntEnum):
    """The frame in front of a message from a frontend."""

    ADD = 0
    ABORT = 1
    START_DP_WAVE = 2
    UTILITY = 3

    @property
    def frame(self) -> bytes:
        return bytes([self])


class FinishReason(IntEnum):
    """Why a request is over."""

    STOP = 0
    LENGTH = 1
    ABORT = 2
    ERROR = 3
    REPETITION = 4


class EventType(IntEnum):
    """What happened to a request in the engine."""

    QUEUED = 1
    SCHEDULED = 2
    PREEMPTED = 3


# ------------------------------------------------------------------------------------------ tensors


class Tensor:
    """A C-ordered array under torch's name of its type, such as ``bfloat16``.

    ``data`` holds ``prod(shape) * itemsize`` bytes in native order; numpy needs not know the type.
    """

    __slots__ = ("data", "dtype", "shape")

    def __init__(
        self, dtype: str, shape: tuple[int, ...], data: bytes | memoryview | np.ndarray
    ) -> None:
        self.dtype, self.shape, self.data = dtype, shape, data

    def __repr__(self) -> str:
        return f"Tensor({self.dtype}, {list(self.shape)})"

    @classmethod
    def of(cls, array: np.ndarray) -> Tensor:
        """Wrap ``array`` (any shape, native byte order) without a copy where it is contiguous."""
        array = np.ascontiguousarray(array).reshape(array.shape)
        return cls(array.dtype.name, array.shape, array)

    def numpy(self) -> np.ndarray:
        """A view with the tensor's shape; raises ``TypeError`` for types numpy does not know."""
        if isinstance(self.data, np.ndarray):
            return self.data.reshape(self.shape)
        dtype = np.dtype(self.dtype)
        if prod(self.shape) == 0:
            return np.empty(self.shape, dtype)
        return np.frombuffer(self.data, dtype).reshape(self.shape)


class NestedTensors:
    """A tensor, a number, ``None``, or a list of such: the value of one multimodal input."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


# ------------------------------------------------------------------------------ frontend to engine


class LoRARequest(msgspec.Struct, array_like=True, omit_defaults=True):
    """*array*: the adapter a request wants."""

    lora_name: str
    lora_int_id: int
    lora_path: str
    base_model_name: str | None = None
    load_inplace: bool = False
    is_3d_lora_weight: bool = False

    def __post_init__(self) -> None:
        if self.lora_int_id < 1:
            raise ValueError(f"lora_int_id must be at least 1, got {self.lora_int_id}")
        if not self.lora_path:
            raise ValueError("lora_path must not be empty")


class LateInteractionParams(msgspec.Struct, array_like=True, omit_defaults=True):
    """*array*: which cached query a pooling request is scored against."""

    mode: str
    query_key: str | None = None
    query_uses: int | None = None


class LateChunkingParams(msgspec.Struct, array_like=True, omit_defaults=True):
    """*array*: how a long pooled text is cut after the model has seen all of it."""

    chunk_size: int | None = None


PoolingTask = Literal[
    "embed", "classify", "token_embed", "token_classify", "plugin", "embed&token_classify"
]


class PoolingParams(msgspec.Struct, array_like=True, omit_defaults=True):
    """*array*: what a pooling request wants instead of tokens."""

    use_activation: bool | None = None
    dimensions: int | None = None
    step_tag_id: int | None = None
    returned_token_ids: list[int] | None = None
    task: PoolingTask | None = None
    requires_token_ids: bool = False
    skip_reading_prefix_cache: bool | None = None
    late_interaction_params: LateInteractionParams | None = None
    extra_kwargs: dict[str, Any] | None = None
    output_kind: int = 2
    late_chunking_params: LateChunkingParams | None = None


class PlaceholderRange(msgspec.Struct):
    """Where a multimodal item sits in the prompt; ``is_embed`` is bool [length]."""

    offset: int
    length: int
    is_embed: Tensor | None = None


class MultiModalField(msgspec.Struct):
    """One named input of an item; ``field`` is [kind, its arguments]."""

    data: NestedTensors
    field: list[Any]


class MultiModalFeature(msgspec.Struct):
    """One image, video or audio item; ``data`` is ``None`` when the engine caches it already."""

    data: dict[str, MultiModalField] | None
    modality: str
    identifier: str
    mm_position: PlaceholderRange
    mm_hash: str | None = None


class EngineCoreRequest(msgspec.Struct, array_like=True, omit_defaults=True):
    """*array*: ADD, one request for tokens or for a pooled vector.

    ``request_id`` is unique per frontend; ``arrival_time`` is unix seconds.
    """

    request_id: str
    prompt_token_ids: list[int] | None
    mm_features: list[MultiModalFeature] | None
    sampling_params: SamplingParams | None
    pooling_params: PoolingParams | None
    arrival_time: float
    lora_request: LoRARequest | None
    cache_salt: str | None
    data_parallel_rank: int | None
    prompt_embeds: Tensor | None = None
    prompt_is_token_ids: list[bool] | None = None
    client_index: int = 0
    current_wave: int = 0
    priority: int = 0  # lower is earlier
    trace_headers: dict[str, str] | None = None
    resumable: bool = False
    external_req_id: str | None = None
    reasoning_ended: bool | None = None
    reasoning_parser_kwargs: dict[str, Any] | None = None
    abort_immediately: bool = False
    session_id: str | None = None
    kv_hints: dict[str, Any] | None = None


class StartWave(msgspec.Struct, array_like=True, omit_defaults=True):
    """*array*: START_DP_WAVE, start stepping unless you are the excluded engine."""

    wave: int
    exclude_engine_index: int | None = None


class UtilityRequest(msgspec.Struct, array_like=True, omit_defaults=True):
    """*array*: UTILITY, a call of one of the engine's methods."""

    client_index: int
    call_id: int
    method: str
    args: list[Any] = msgspec.field(default_factory=list)


# ------------------------------------------------------------------------------ engine to frontend


class LogprobsLists(msgspec.Struct, array_like=True, omit_defaults=True):
    """*array*: log probabilities of P sampled positions, K + 1 columns.

    Column 0 is the sampled token, columns 1..K the most likely ones in order.

    Shapes: ``token_ids`` int [P, K+1], ``logprobs`` f32 [P, K+1], ``sampled_token_ranks`` int [P],
    1-based rank of column 0 in the whole vocabulary.
    """

    token_ids: np.ndarray
    logprobs: np.ndarray
    sampled_token_ranks: np.ndarray
    cu_num_generated_tokens: list[int] | None = None


class LogprobsTensors(msgspec.Struct, array_like=True, omit_defaults=True):
    """*array*: the same for the positions of a prompt, as tensors."""

    token_ids: Tensor
    logprobs: Tensor
    selected_token_ranks: Tensor
    cu_num_generated_tokens: list[int] | None = None
    cu_num_generated_tokens_tensor: Tensor | None = None


class SamplingMaskLists(msgspec.Struct, array_like=True, omit_defaults=True):
    """*array*: the tokens that could be sampled, as rows of a compressed sparse matrix.

    ``offsets`` starts at 0, does not decrease and ends at ``len(token_ids)``; ``None`` means one
    position.
    """

    token_ids: np.ndarray
    offsets: np.ndarray | None = None
    cu_num_generated_tokens: list[int] | None = None


class EngineCoreEvent(msgspec.Struct):
    """An ``EventType`` (or a number from a newer engine) at the engine's monotonic time."""

    type: int
    timestamp: float


class PrefillStats(msgspec.Struct):
    """Where the tokens of a prompt came from; sent with the first output."""

    num_prompt_tokens: int = 0
    num_computed_tokens: int = 0
    num_cached_tokens: int = 0
    num_local_cached_tokens: int = 0
    num_external_cached_tokens: int = 0
    num_cache_creation_tokens: int = 0


class SpecDecodeMetrics(msgspec.Struct):
    """What speculation did for one request; sent with its final output."""

    num_spec_tokens: int = 0
    histogram: list[int] = msgspec.field(default_factory=list)
    num_draft_tokens: int = 0
    per_step_accepted: list[int] = msgspec.field(default_factory=list)
    per_step_drafted: list[int] = msgspec.field(default_factory=list)


class RequestFailure(msgspec.Struct):
    """Why a request ended with ``FinishReason.ERROR``."""

    code: str
    message: str
    retryable: bool = False


class EngineCoreOutput(msgspec.Struct, array_like=True, omit_defaults=True):
    """*array*: what one request gained in one step.

    ``stop_reason`` is the stop token's id or the stop string, ``None`` for the end of the sequence.
    Arrays that were handed to an output must not be written to any more.
    """

    request_id: str
    new_token_ids: list[int]
    new_logprobs: LogprobsLists | None = None
    new_prompt_logprobs_tensors: LogprobsTensors | None = None
    pooling_output: Tensor | None = None
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None
    events: list[EngineCoreEvent] | None = None
    kv_transfer_params: dict[str, Any] | None = None
    ec_transfer_params: dict[str, Any] | None = None
    trace_headers: dict[str, str] | None = None
    prefill_stats: PrefillStats | None = None
    routed_experts: np.ndarray | None = None
    num_nans_in_logits: int = 0
    mm_cache_miss_hashes: list[str] | None = None
    new_sampling_mask: SamplingMaskLists | None = None
    spec_decode_metrics: SpecDecodeMetrics | None = None
    prompt_token_id_logprobs: Tensor | None = None
    error: RequestFailure | None = None

    @property
    def finished(self) -> bool:
        return self.finish_reason is not None

    @classmethod
    def failure(
        cls, request_id: str, message: str, code: str = VALIDATION_ERROR, retryable: bool = False
    ) -> EngineCoreOutput:
        """The final output of a request that failed."""
        error = RequestFailure(code, message, retryable)
        return cls(request_id, [], finish_reason=FinishReason.ERROR, error=error)

    @classmethod
    def aborted(cls, request_id: str) -> EngineCoreOutput:
        """The final output of a request that its client did not abort itself."""
        return cls(request_id, [], finish_reason=FinishReason.ABORT)


class UtilityResult(msgspec.Struct, array_like=True, omit_defaults=True):
    """*array*: what a call returned; ``type_info`` is always ``None`` here."""

    type_info: Any = None
    value: Any = None


class UtilityOutput(msgspec.Struct, array_like=True, omit_defaults=True):
    """*array*: the answer to a call; ``result`` is ``None`` when it failed.

    Negative ``call_id``s belong to notices that nobody asked for.
    """

    call_id: int
    failure_message: str | None = None
    result: UtilityResult | None = None


class PrefixCacheStats(msgspec.Struct):
    """Look-ups in a prefix cache since the last report, counted in tokens."""

    reset: bool = False
    requests: int = 0
    queries: int = 0
    hits: int = 0
    preempted_requests: int = 0
    preempted_queries: int = 0
    preempted_hits: int = 0
    hits_by_source: dict[str, int] = msgspec.field(default_factory=dict)


class KVCacheEvictionEvent(msgspec.Struct):
    """The life of one cache block that was given to someone else."""

    lifetime_seconds: float
    idle_seconds: float
    reuse_gaps_seconds: list[float] = msgspec.field(default_factory=list)


class SpecDecodingStats(msgspec.Struct):
    """Speculation over all requests since the last report."""

    num_spec_tokens: int = 0
    num_drafts: int = 0
    num_draft_tokens: int = 0
    num_accepted_tokens: int = 0
    num_accepted_tokens_per_pos: list[int] = msgspec.field(default_factory=list)
    num_draft_tokens_per_pos: list[int] = msgspec.field(default_factory=list)


class IterationDetails(msgspec.Struct):
    """What one step was made of."""

    iteration_index: int = 0
    num_ctx_requests: int = 0
    num_ctx_tokens: int = 0
    num_generation_requests: int = 0
    num_generation_tokens: int = 0
    elapsed_ms: float = 0.0
    num_encoder_inputs: int = 0
    num_encoder_output_tokens: int = 0
    is_dummy: bool = False


class SchedulerStats(msgspec.Struct, kw_only=True):
    """The engine's state after a step; every key is always sent."""

    num_running_reqs: int = 0
    num_waiting_reqs: int = 0
    num_skipped_waiting_reqs: int = 0
    num_kv_fetch_reqs_by_stage: dict[str, int] = msgspec.field(default_factory=dict)
    step_counter: int = 0
    current_wave: int = 0
    kv_cache_usage: float = 0.0  # 0..1
    iteration_details: IterationDetails | None = None
    prefix_cache_stats: PrefixCacheStats = msgspec.field(default_factory=PrefixCacheStats)
    connector_prefix_cache_stats: PrefixCacheStats | None = None
    kv_cache_eviction_events: list[KVCacheEvictionEvent] = msgspec.field(default_factory=list)
    spec_decoding_stats: SpecDecodingStats | None = None
    kv_connector_stats: dict[str, Any] | None = None
    ec_connector_stats: dict[str, Any] | None = None
    waiting_lora_adapters: dict[str, int] = msgspec.field(default_factory=dict)
    running_lora_adapters: dict[str, int] = msgspec.field(default_factory=dict)
    cudagraph_stats: dict[str, Any] | None = None
    perf_stats: dict[str, Any] | None = None


class EngineCoreOutputs(msgspec.Struct, array_like=True, omit_defaults=True):
    """*array*: one message of an engine to one frontend.

    Carries one family: a step (``outputs``, ``scheduler_stats``, ``finished_requests``), the answer
    to a call (``utility_output``) or wave control (``wave_complete``, ``start_wave``). At most nine
    slots and never empty, since peers of this generation break on anything else. ``timestamp`` is
    the engine's monotonic clock.
    """

    engine_index: int = 0
    outputs: list[EngineCoreOutput] = msgspec.field(default_factory=list)
    scheduler_stats: SchedulerStats | None = None
    timestamp: float = 0.0
    utility_output: UtilityOutput | None = None
    finished_requests: list[str] | None = None
    wave_complete: int | None = None
    start_wave: int | None = None
    weight_version: str | None = None


# -------------------------------------------------------------------------- start-up, registration


class EngineHello(msgspec.Struct, kw_only=True):
    """HELLO and READY of an engine; the optional keys belong to READY and are left out if unset."""

    status: str
    local: bool
    headless: bool
    parallel_config_hash: str | None = None

    def to_map(self) -> dict[str, Any]:
        values = msgspec.structs.asdict(self)
        return {key: value for key, value in values.items() if value is not None}


class EngineAddresses(msgspec.Struct, kw_only=True):
    """Where an engine connects; position i of ``inputs`` and ``outputs`` is ``client_index`` i."""

    inputs: list[str]
    outputs: list[str]
    coordinator_input: str | None = None
    coordinator_output: str | None = None
    frontend_stats_publish_address: str | None = None


class EngineInit(msgspec.Struct, kw_only=True):
    """INIT, the answer to HELLO."""

    addresses: EngineAddresses
    parallel_config: dict[str, Any] = msgspec.field(default_factory=dict)


class EngineCoreReadyResponse(msgspec.Struct, kw_only=True):
    """An engine's registration: its limits and layout, as the first message on an input socket.

    ``dtype`` is one of float16, bfloat16, float32.
    """

    max_model_len: int
    num_gpu_blocks: int
    block_size: int
    dp_stats_address: str | None = None
    dtype: str
    vllm_version: str
    world_size: int = 1
    data_parallel_size: int = 1
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    decode_context_parallel_size: int = 1
    data_parallel_rank: int = 0
    max_num_seqs: int
    max_num_batched_tokens: int
    instance_id: str
    supports_lora: bool = False
    max_loras: int = 0
    mamba_block_size: int | None = None
    kv_cache_size_tokens: int | None = None
    kv_cache_max_concurrency: float | None = None
    kv_events_config: dict[str, Any] | None = None
    weight_transfer_backend: str | None = None
    enable_sleep_mode: bool = False
    supports_draft_weight_updates: bool = False
    effective_attention_block_size: int | None = None
    coord_store_port: int = 0
    coordinator_input_address: str | None = None
    coordinator_output_address: str | None = None


# ------------------------------------------------------------------------------------- coordinator


class EngineLoad(msgspec.Struct, array_like=True, omit_defaults=True):
    """*array*: how busy one engine is, as the coordinator tells frontends."""

    waiting: int
    running: int
    kv_cache_usage: float = 0.0


class CoordinatorUpdate(msgspec.Struct, array_like=True, omit_defaults=True):
    """*array*: coordinator to frontends; ``counts`` in order of rank, ``None`` if unchanged."""

    counts: list[EngineLoad] | None
    current_wave: int
    engines_running: bool
