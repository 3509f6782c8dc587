# SPDX-License-Identifier: Apache-2.0
"""Runs the model over a batch: a plan in, hidden states and then tokens out.

Owns model, KV tensors, the input batch and the sampler. Must not know scheduling policy, the wire
or text.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vllm.config.engine import EngineConfig
from vllm.distributed.group import ALONE, Group
from vllm.engine.request import Request
from vllm.errors import EngineStartError, UsageError
from vllm.kernels import ops
from vllm.kernels.graph import Graph
from vllm.kernels.recording import Recording
from vllm.layers.linear import Target
from vllm.loader.checkpoint import Checkpoint, open_checkpoint
from vllm.logging import OnProgress
from vllm.models.config import ModelConfig
from vllm.models.llama import LlamaModel
from vllm.models.registry import model_class
from vllm.models.split import split_config
from vllm.sampling.finite import count_nans
from vllm.sampling.logprobs import PromptLogprobs, prompt_wish
from vllm.sampling.sampler import Sampled, Sampler
from vllm.sampling.thinking import Markers
from vllm.scheduler.batch import Batch
from vllm.worker import kv_tensors, resources
from vllm.worker.choices import Choices
from vllm.worker.decode_steps import MAX_RECORDED_ON_CPU, Computed, DecodeSteps, Record, bucket
from vllm.worker.input_batch import InputBatch, StepInputs

LOGIT_ROWS = 64  # rows of logits computed at a time where all of a prompt's are wanted


class ModelRunner:
    """One model on one device, or one rank's part of it."""

    def __init__(self, config: EngineConfig, progress: OnProgress, group: Group = ALONE) -> None:
        self.group = group
        self.device = _device(config, group.size)
        self.num_threads = config.num_threads or max(1, resources.cpu_count() // group.size)
        torch.set_num_threads(self.num_threads)
        ops.set_num_threads(self.num_threads)
        checkpoint = open_checkpoint(config.model, config.load_format, config.seed, self.device)
        self.config: ModelConfig = split_config(checkpoint.config, group.size)
        group.connect(self.device)
        self.target = _target(config, self.config, self.device)
        self.kv_dtype = _kv_dtype(config, self.target, self.device)
        if self.device.type == "cpu":
            memory = config.kv_cache_memory or kv_tensors.memory_on_cpu(
                group.size, checkpoint.nbytes
            )
            self.layout, self.max_model_len = self._plan_cache(config, memory)
            self.model = self._load(checkpoint, config, self.max_model_len, progress)
        else:
            longest = config.max_model_len or self.config.max_position
            self.model = self._load(checkpoint, config, longest, progress)
            share = config.gpu_memory_utilization
            memory = config.kv_cache_memory or kv_tensors.memory_on_gpu(self.device, share)
            self.layout, self.max_model_len = self._plan_cache(config, memory)
        self.caches = self._allocate(progress)
        self._decode_steps = self._plan_decode_steps(config)
        # Other ranks are sent their inputs before the step.
        self._fills_in_step = self.device.type == "cpu" and group.size == 1
        self.inputs = InputBatch(
            config.max_num_seqs,
            self.max_model_len,
            config.max_num_batched_tokens,
            config.block_size,
            self.device,
            self._padded,
            self._fills_in_step,
        )
        thinking = _thinking_markers(config, self.config.vocab_size)
        self.sampler = Sampler(config.max_num_seqs, self.config.vocab_size, self.device, thinking)
        self.prompt_logprobs: dict[str, PromptLogprobs] = {}
        self._computed: Computed | None = None  # by a decode step
        self._choices = Choices(config.max_num_seqs, self.device)
        self.logits = torch.empty(
            (max(config.max_num_seqs, LOGIT_ROWS), self.config.vocab_size),
            dtype=torch.float32,
            device=self.device,
        )

    @property
    def activation_dtype(self) -> torch.dtype:
        return self.target.activation_dtype

    def _plan_cache(self, config: EngineConfig, memory: int) -> tuple[kv_tensors.KVLayout, int]:
        return kv_tensors.plan_cache(
            self.config,
            self.group,
            block_size=config.block_size,
            dtype=self.kv_dtype,
            memory=memory,
            max_model_len=config.max_model_len,
            max_num_seqs=config.max_num_seqs,
            step=config.max_num_batched_tokens,
        )

    def _load(
        self, checkpoint: Checkpoint, config: EngineConfig, longest: int, progress: OnProgress
    ) -> LlamaModel:
        progress("weights", 0.0)
        model = model_class(self.config)(
            checkpoint,
            self.target,
            config.max_num_batched_tokens,
            longest,
            lambda done: progress("weights", done),
            self.group,
        )
        checkpoint.release()
        return model

    def _allocate(self, progress: OnProgress) -> list[kv_tensors.LayerCache]:
        progress("KV cache", 0.0)
        caches = kv_tensors.allocate(self.config, self.layout, self.kv_dtype, self.device)
        progress("KV cache", 1.0)
        return caches

    def _plan_decode_steps(self, config: EngineConfig) -> DecodeSteps:
        """On a GPU steps are filled up to one of a few sizes, since each is a graph. Sums over
        ranks are not recorded.
        """
        eager = config.enforce_eager or self.group.size > 1
        if self.device.type == "cpu":
            return DecodeSteps(self._compute, Recording, 0 if eager else MAX_RECORDED_ON_CPU)
        most = 0 if eager else config.max_num_seqs
        return DecodeSteps(self._compute, _graphs(), most)

    def _padded(self, size: int) -> int:
        steps = self._decode_steps
        return bucket(size, steps.most) if self.device.type == "cuda" and steps.most else size

    @property
    def can_release_cache(self) -> bool:
        """On a GPU the weights would have to move to host memory, too, which is not built."""
        return self.device.type == "cpu"

    def release_cache(self) -> None:
        """Give the memory of the KV cache back; what is in it is lost."""
        self._decode_steps.forget()
        self.caches = []

    def restore_cache(self) -> None:
        """Take memory for the KV cache again."""
        self.caches = self._allocate(lambda _phase, _done: None)

    def apply(self, batch: Batch) -> None:
        """Rows and block tables follow the plan: preempted out, admitted in, blocks appended."""
        for request in batch.preempted:
            self.remove(request)
        for request in batch.admitted:
            self._add(request)
        for request, position, blocks in batch.new_blocks:
            self.inputs.add_blocks(request, position, blocks)

    def _add(self, request: Request) -> None:
        self.inputs.add(request)
        self.sampler.add(request)
        top = prompt_wish(request, self.config.vocab_size)
        if top is not None and request.num_output_tokens == 0:
            self.prompt_logprobs[request.request_id] = PromptLogprobs(request, top)

    def remove(self, request: Request) -> None:
        """A running request ended or was preempted: its row is free."""
        self.sampler.remove(request.row)
        self.inputs.remove(request)
        self.prompt_logprobs.pop(request.request_id, None)

    def prepare(self, batch: Batch) -> StepInputs:
        """What the model is given for a batch."""
        self.apply(batch)
        return self.inputs.prepare(batch)

    def execute(self, batch: Batch) -> StepInputs:
        """Compute the batch; hidden states [T, hidden] stay until the next call.

        Where every request decodes, logits and their maxima are computed along with them.
        """
        inputs = self.prepare(batch)
        if inputs.is_decode:
            self._computed = self._decode_steps.run(inputs)
            self._hidden = self._computed.hidden
        else:
            self._hidden, self._computed = self._forward(inputs), None
        return inputs

    def _forward(self, inputs: StepInputs) -> Tensor:
        return self.model.forward(inputs.token_ids, inputs.positions, self.caches, inputs.attention)

    def _compute(self, inputs: StepInputs) -> Computed:
        if self._fills_in_step:
            self.inputs.fill_decode()
        hidden = self._forward(inputs)
        size = hidden.shape[0]
        logits = self.logits[:size]
        self.model.logits(logits, hidden)
        likeliest, suspect = self._choices.on_device(size)
        ops.choose_greedy(likeliest, suspect, hidden, logits)
        if self._fills_in_step:
            self.inputs.append_likeliest(likeliest)
        return Computed(hidden, logits, self._choices.on_host(size))

    def sample(self, batch: Batch, inputs: StepInputs) -> tuple[list[Request], Sampled]:
        """The next token of every request whose tokens are all computed by this step."""
        if self._computed is not None:
            return batch.requests, self._sample_decodes(batch.requests, inputs.rows, self._computed)
        if self.prompt_logprobs:
            self._fill_prompt_logprobs(batch, inputs)
        indices = [i for i, r in enumerate(batch.requests) if r.num_missing_tokens == 0]
        requests = [batch.requests[i] for i in indices]
        if not requests:
            return [], Sampled([])
        rows = inputs.rows[indices]
        hidden = self._hidden_at(inputs.starts[1:][indices] - 1)
        logits = self._logits_of(hidden)
        sampled = self._choose(requests, rows, logits, count_nans(hidden, logits))
        positions = np.array([request.num_tokens for request in requests], np.intp)
        self.inputs.append_tokens(rows, positions, sampled.token_ids)
        return requests, sampled

    def _sample_decodes(
        self, requests: list[Request], rows: np.ndarray, computed: Computed
    ) -> Sampled:
        """All requests of a decode step are due. Their likeliest tokens are there, and where more
        is only drawing, the drawn ones take their place before anybody waits for the device. The
        step may have more rows than there are requests.
        """
        size, padded = len(requests), len(computed.choices) - 1
        likeliest = self.sampler.takes_likeliest
        only_draws = likeliest or self.sampler.only_draws
        if only_draws and not likeliest:
            out = self._choices.on_device(padded)[0][:size]
            self.sampler.draw(out, computed.logits[:size], requests, rows)
        self._choices.fetch(padded)
        tokens = computed.choices.tolist()
        suspect = tokens.pop()
        if only_draws and not suspect:
            sampled = Sampled(tokens if size == padded else tokens[:size])
            if likeliest and self._fills_in_step:
                return sampled  # the step itself has appended them
        else:
            hidden, logits = computed.hidden[:size], computed.logits[:size]
            nans = count_nans(hidden, logits) if suspect else {}
            sampled = self._choose(requests, rows, logits, nans)
        self.inputs.append_decoded(rows, sampled.token_ids)
        return sampled

    def _choose(
        self, requests: list[Request], rows: np.ndarray, logits: Tensor, nans: dict[int, int]
    ) -> Sampled:
        if nans:
            logits[list(nans)] = 0.0  # nothing behind here need think of NaN
        sampled = self.sampler.sample(logits, requests, rows)
        sampled.nans = nans
        return sampled

    def _fill_prompt_logprobs(self, batch: Batch, inputs: StepInputs) -> None:
        for index, request in enumerate(batch.requests):
            wanted = self.prompt_logprobs.get(request.request_id)
            # Position p predicts token p + 1, so the last prompt position is left out.
            first = request.num_computed_tokens
            last = min(request.num_scheduled_tokens, request.num_prompt_tokens - 1)
            if wanted is None or first >= last:
                continue
            shift = int(inputs.starts[index]) - first
            for start in range(first, last, LOGIT_ROWS):
                rows = np.arange(start, min(start + LOGIT_ROWS, last)) + shift
                wanted.fill(start, self._logits_of(self._hidden_at(rows)))

    def _hidden_at(self, rows: np.ndarray) -> Tensor:
        """[len(rows), hidden]: these rows of the step's hidden states, in ascending order."""
        if len(rows) == self._hidden.shape[0]:
            return self._hidden
        return self._hidden.index_select(0, torch.from_numpy(rows).to(self.device))

    def _logits_of(self, hidden: Tensor) -> Tensor:
        """f32 [rows of `hidden`, vocab]; lives until the next call."""
        out = self.logits[: hidden.shape[0]]
        self.model.logits(out, hidden)
        return out


def _graphs() -> Record:
    """They share what they allocate: one step runs at a time."""
    pool = torch.cuda.graph_pool_handle()
    return lambda calls: Graph(calls, pool)


def _thinking_markers(config: EngineConfig, vocab_size: int) -> Markers | None:
    start, end = tuple(config.thinking_start), tuple(config.thinking_end)
    if not start:
        return None
    if not all(0 <= token < vocab_size for token in (*start, *end)):
        raise EngineStartError(
            f"the marks of a thought are tokens {start} and {end}; the model has tokens 0 to "
            f"{vocab_size - 1}"
        )
    return Markers(start, end)


def _device(config: EngineConfig, ranks: int) -> torch.device:
    name = config.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() and ops.HAS_CUDA else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise EngineStartError("device cuda was asked for, but torch sees no CUDA device")
    count, index = torch.cuda.device_count(), config.device_index
    if ranks > 1 and index >= count:
        raise EngineStartError(
            f"CUDA device {index} is needed for a rank of --tensor-parallel-size {ranks}, and "
            f"torch sees {count}"
        )
    device = torch.device("cuda", index % count)  # small engines may share one
    torch.cuda.set_device(device)
    return device


def _target(config: EngineConfig, model: ModelConfig, device: torch.device) -> Target:
    if config.dequantize:
        return Target(device, torch.float32, dequantize=True)
    if device.type == "cpu":
        dtype = None if config.dtype == "auto" else getattr(torch, config.dtype)
        return Target(device, dtype)
    name = config.dtype if config.dtype != "auto" else model.dtype or "bfloat16"
    return Target(device, getattr(torch, name))


def _kv_dtype(config: EngineConfig, target: Target, device: torch.device) -> torch.dtype:
    if config.kv_cache_dtype != "auto":
        _check_kv_dtype(config.kv_cache_dtype, target.dtype or torch.float32, device)
        return getattr(torch, config.kv_cache_dtype)
    if target.dequantize:
        return torch.float32
    return torch.bfloat16 if device.type == "cpu" else target.dtype or torch.bfloat16


def _check_kv_dtype(name: str, activations: torch.dtype, device: torch.device) -> None:
    """A GPU's attention in 16 bits reads a cache of its own dtype; a CPU has none in float16."""
    if device.type == "cpu" and name == "float16":
        raise UsageError(
            "--kv-cache-dtype float16 is not served on a CPU; use auto, bfloat16 or float32"
        )
    if device.type == "cuda" and activations not in (torch.float32, getattr(torch, name)):
        own = str(activations).removeprefix("torch.")
        raise UsageError(
            f"--kv-cache-dtype {name} is not served on a GPU beside activations in {own}; "
            f"use auto or {own}"
        )
