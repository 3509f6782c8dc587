# SPDX-License-Identifier: Apache-2.0
"""BERT (Devlin et al. 2018, arXiv 1810.04805) as an encoder: texts to one vector each.

Owns the order of layers and the pooling. Must not know text, or which texts share a batch. Every
token sees every token, so there is no cache and nothing to schedule; a batch is a few large matrix
products, which are torch's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from vllm.loader.checkpoint import expect_shape
from vllm.loader.hf_checkpoint import HFTensors
from vllm.models.encoder_config import EncoderConfig


class BertEncoder:
    """Weights in f32 on `device`."""

    def __init__(self, config: EncoderConfig, tensors: HFTensors, device: torch.device) -> None:
        self.config, self.device = config, device
        self._tensors = tensors
        hidden = config.hidden_size
        self.words = self._get("embeddings.word_embeddings.weight", config.vocab_size, hidden)
        self.positions = self._get(
            "embeddings.position_embeddings.weight", config.max_position, hidden
        )
        types = self._get("embeddings.token_type_embeddings.weight", config.type_vocab_size, hidden)
        self.type = types[0]  # one text at a time is the first of a pair
        self.norm = self._norm("embeddings.LayerNorm")
        self.layers = [
            _BertLayer(self, f"encoder.layer.{index}.") for index in range(config.num_layers)
        ]

    def embed(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """f32 [len(texts), hidden] of texts as token ids, each 1 to `max_length` long."""
        lengths = torch.tensor([len(text) for text in texts], device=self.device)
        width = int(lengths.max())
        ids = torch.zeros((len(texts), width), dtype=torch.int64, device=self.device)
        for row, text in zip(ids, texts, strict=True):
            row[: len(text)] = torch.tensor(text, device=self.device)
        present = torch.arange(width, device=self.device) < lengths[:, None]
        hidden = self.forward(ids, present)
        return self._pool(hidden, present)

    def forward(self, ids: Tensor, present: Tensor) -> Tensor:
        """f32 [B, L, hidden] of ids i64 [B, L]; `present` bool [B, L] tells tokens from padding."""
        x = self.words[ids] + self.positions[: ids.shape[1]] + self.type
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x, present)
        return x

    def _pool(self, hidden: Tensor, present: Tensor) -> Tensor:
        pooled = hidden[:, 0]
        if self.config.pooling == "mean":
            weights = present[:, :, None].to(hidden.dtype)
            pooled = (hidden * weights).sum(1) / weights.sum(1)
        return functional.normalize(pooled, dim=-1) if self.config.normalize else pooled

    def _get(self, name: str, *shape: int) -> Tensor:
        weight = expect_shape(self._tensors.get(name), name, shape)
        return weight.to_dense(torch.float32, self.device)

    def _norm(self, name: str) -> _LayerNorm:
        size = self.config.hidden_size
        weight, bias = self._get(name + ".weight", size), self._get(name + ".bias", size)
        return _LayerNorm(weight, bias, self.config.layer_norm_eps)

    def _linear(self, name: str, rows: int, columns: int) -> _Linear:
        return _Linear(self._get(name + ".weight", rows, columns), self._get(name + ".bias", rows))


class _Linear:
    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight, self.bias = weight, bias

    def __call__(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)


class _LayerNorm:
    def __init__(self, weight: Tensor, bias: Tensor, eps: float) -> None:
        self.weight, self.bias, self.eps = weight, bias, eps

    def __call__(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class _BertLayer:
    """Attention and MLP, a norm behind each sum with the input."""

    def __init__(self, model: BertEncoder, prefix: str) -> None:
        config = model.config
        hidden, inner = config.hidden_size, config.intermediate_size
        self.heads = config.num_heads
        attention = prefix + "attention."
        self.query, self.key, self.value = (
            model._linear(f"{attention}self.{name}", hidden, hidden)
            for name in ("query", "key", "value")
        )
        self.attention_output = model._linear(attention + "output.dense", hidden, hidden)
        self.attention_norm = model._norm(attention + "output.LayerNorm")
        self.up = model._linear(prefix + "intermediate.dense", inner, hidden)
        self.down = model._linear(prefix + "output.dense", hidden, inner)
        self.norm = model._norm(prefix + "output.LayerNorm")

    def __call__(self, x: Tensor, present: Tensor) -> Tensor:
        x = self.attention_norm(x + self.attention_output(self._attend(x, present)))
        return self.norm(x + self.down(functional.gelu(self.up(x))))

    def _attend(self, x: Tensor, present: Tensor) -> Tensor:
        batch, length, hidden = x.shape
        q, k, v = (
            part(x).view(batch, length, self.heads, -1).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        mask = present[:, None, None, :]
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return mixed.transpose(1, 2).reshape(batch, length, hidden)
