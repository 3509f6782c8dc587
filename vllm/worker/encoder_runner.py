# SPDX-License-Identifier: Apache-2.0
"""Runs an encoder over texts: which of them share a batch.

Owns the model and the batches. Must not know text. Texts of similar length are padded to the same
width, so they go together; a batch holds at most `max_num_seqs` texts and, padding included, about
`max_num_batched_tokens` tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from vllm.config.engine import EngineConfig
from vllm.errors import EngineStartError
from vllm.loader.hf_checkpoint import HFTensors
from vllm.models.bert import BertEncoder
from vllm.models.encoder_config import EncoderConfig, read_encoder_config
from vllm.worker import resources

# There is no KV cache, no schedule and no sampling; weights and activations are in float32.
NOT_USED = (
    "block_size",
    "device_index",
    "dequantize",
    "enable_prefix_caching",
    "enforce_eager",
    "gpu_memory_utilization",
    "kv_cache_dtype",
    "kv_cache_memory",
    "max_logprobs",
    "scheduling_policy",
    "seed",
    "tensor_parallel_size",
    "thinking_end",
    "thinking_start",
)


class EncoderRunner:
    """One encoder on one device. Raises `vllm.errors.ModelError` when it cannot be loaded."""

    def __init__(self, config: EngineConfig) -> None:
        _refuse_not_used(config)
        torch.set_num_threads(config.num_threads or resources.cpu_count())
        cuda = torch.cuda.is_available() and config.device != "cpu"
        if config.device == "cuda" and not cuda:
            raise EngineStartError("device cuda was asked for, but torch sees no CUDA device")
        folder = Path(config.model)
        self.config: EncoderConfig = read_encoder_config(folder)
        self.max_length = min(
            self.config.max_length, config.max_model_len or self.config.max_length
        )
        self._max_texts, self._max_tokens = config.max_num_seqs, config.max_num_batched_tokens
        device = torch.device("cuda" if cuda else "cpu")
        self.model = BertEncoder(self.config, HFTensors(folder), device)

    def embed(
        self,
        texts: Sequence[Sequence[int]],
        progress: Callable[[float], None] = lambda _done: None,
    ) -> list[list[float]]:
        """One vector of `hidden_size` numbers for each text, in order. Each text has 1 to
        `max_length` token ids below the vocabulary's size.
        """
        vectors: list[list[float]] = [[] for _ in texts]
        done = 0
        for batch in self._batches(texts):
            with torch.inference_mode():
                found = self.model.embed([texts[index] for index in batch])
            for index, vector in zip(batch, found.tolist(), strict=True):
                vectors[index] = vector
            done += len(batch)
            progress(done / len(texts))
        return vectors

    def _batches(self, texts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Indices of texts, the longest first, so that too little memory shows at once."""
        order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
        while order:
            widest = len(texts[order[0]])
            count = max(1, min(self._max_texts, self._max_tokens // widest))
            yield order[:count]
            order = order[count:]


def _refuse_not_used(config: EngineConfig) -> None:
    accepted: dict[str, tuple[object, ...]] = {
        "dtype": ("auto", "float32"),
        "load_format": ("auto",),
        **{name: (getattr(EngineConfig, name),) for name in NOT_USED},
    }
    for name, values in accepted.items():
        if (value := getattr(config, name)) not in values:
            words = " or ".join(map(repr, values))
            raise EngineStartError(f"{name} {value!r} is not served for encoders, only {words}")
