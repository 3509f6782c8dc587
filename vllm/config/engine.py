# SPDX-License-Identifier: Apache-2.0
"""Configuration of one engine: plain values that travel as JSON to the engine process.

Owns defaults and the checks that need no model. Must not know torch or the command line.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

DTYPES = ("auto", "float32", "float16", "bfloat16")
DEVICES = ("auto", "cpu", "cuda")
SCHEDULING_POLICIES = ("priority", "fcfs")
LOAD_FORMATS = ("auto", "dummy")
MAX_THREADS = 1024  # of the CPU kernels; more only crash the process
MAX_RANKS = 64  # of one model, each a process; few models have more heads to share out
KV_CACHE_DTYPES = ("auto", "float32", "float16", "bfloat16")


@dataclass(frozen=True)
class EngineConfig:
    """What `EngineCore` is built from. None and "auto" are decided when the model is known.

    model: resolved local path of a directory or GGUF file.
    dtype: of dense weights, and on a GPU of activations; on the CPU these are float32, and "auto"
        leaves weights as they are stored.
    max_model_len: longest prompt plus output in tokens; None: what the model and the KV cache
        allow.
    max_num_seqs: requests that run at the same time.
    max_num_batched_tokens: tokens computed per step; longer prompts are cut into chunks.
    kv_cache_memory: bytes; None: a share of the memory this process may use.
    gpu_memory_utilization: that share on a GPU, of all its memory, with all that is in use already.
    num_threads: of the CPU kernels; None: the CPUs this process may use.
    dequantize: reference mode: weights and KV cache in float32.
    enforce_eager: decode steps are computed call by call, never recorded and replayed.
    seed: from which requests without a seed of their own draw one.
    scheduling_policy: "priority": requests of a lower `priority` number first, and of one priority
        in order of arrival; "fcfs": in order of arrival, other priorities than 0 are refused.
    enable_prefix_caching: requests begin with the computed blocks of others that began alike.
    thinking_start, thinking_end: token ids of the marks around a model's thoughts; a thinking
        budget needs both.
    max_logprobs: most log probabilities per token a request may ask for; -1: no limit.
    tensor_parallel_size: processes that compute the model together; `kv_cache_memory` and
        `num_threads` are of each, and without `num_threads` they share the CPUs.
    device_index: number of the CUDA device of the first of them.
    """

    model: str
    served_model_name: str | None = None
    dtype: str = "auto"
    max_model_len: int | None = None
    max_num_seqs: int = 128
    max_num_batched_tokens: int = 2048
    block_size: int = 16
    kv_cache_memory: int | None = None
    gpu_memory_utilization: float = 0.9
    kv_cache_dtype: str = "auto"
    seed: int = 0
    num_threads: int | None = None
    device: str = "auto"
    load_format: str = "auto"
    dequantize: bool = False
    enforce_eager: bool = False
    scheduling_policy: str = "priority"
    enable_prefix_caching: bool = True
    max_logprobs: int = 20
    thinking_start: tuple[int, ...] = ()
    thinking_end: tuple[int, ...] = ()
    tensor_parallel_size: int = 1
    device_index: int = 0

    def __post_init__(self) -> None:
        for name, choices in (
            ("dtype", DTYPES),
            ("device", DEVICES),
            ("load_format", LOAD_FORMATS),
            ("scheduling_policy", SCHEDULING_POLICIES),
            ("kv_cache_dtype", KV_CACHE_DTYPES),
        ):
            if (value := getattr(self, name)) not in choices:
                raise ValueError(f"{name} is {value!r}; accepted are {', '.join(choices)}")
        for name in (
            "max_num_seqs",
            "max_num_batched_tokens",
            "block_size",
            "tensor_parallel_size",
        ):
            _check_positive(name, getattr(self, name))
        for name in ("max_model_len", "kv_cache_memory", "num_threads"):
            if (value := getattr(self, name)) is not None:
                _check_positive(name, value)
        if not 0 < self.gpu_memory_utilization <= 1:
            raise ValueError(
                f"gpu_memory_utilization is {self.gpu_memory_utilization}; a number above 0 and at "
                "most 1 is needed"
            )
        if (self.num_threads or 1) > MAX_THREADS:
            raise ValueError(f"num_threads is {self.num_threads}; at most {MAX_THREADS} are served")
        if self.tensor_parallel_size > MAX_RANKS:
            raise ValueError(
                f"tensor_parallel_size is {self.tensor_parallel_size}; at most {MAX_RANKS} are "
                "served"
            )
        if self.max_logprobs < -1:
            raise ValueError(
                f"max_logprobs is {self.max_logprobs}; -1 (no limit) or more is needed"
            )
        if bool(self.thinking_start) != bool(self.thinking_end):
            raise ValueError("of thinking_start and thinking_end, both or neither are needed")
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                f"max_num_batched_tokens ({self.max_num_batched_tokens}) is below max_num_seqs "
                f"({self.max_num_seqs}); raise the first or lower the second"
            )

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> EngineConfig:
        """From a JSON object; unknown keys are an error, missing ones take their default."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"unknown engine configuration: {', '.join(unknown)}")
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _check_positive(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is {value!r}; an integer of at least 1 is needed")
