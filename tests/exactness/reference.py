# SPDX-License-Identifier: Apache-2.0
"""A Llama or Qwen forward pass in float64, from the papers, sharing no code with the engine.

It computes a whole sequence at once, keeps nothing between calls and is as plain as possible: it is
what the engine is compared with. Two hooks say what an implementation rounds, so that the error
which such a rounding must make is computed here instead of guessed: see `with_rounding`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from vllm.kernels import ops

Rounding = Callable[[Tensor, str], Tensor]
"""What becomes of a value that goes to the place of this name."""

LOG2_E = math.log2(math.e)
# Layers whose inputs the fast kernels of packed weights round to one digit, the others to more.
ONE_DIGIT = ("o_proj", "gate_proj")


def exact(x: Tensor, name: str) -> Tensor:
    """No rounding."""
    return x


def bfloat16(x: Tensor, name: str) -> Tensor:
    """To 8 significant bits, as a bfloat16 KV cache does."""
    return x.bfloat16().double()


def of_products(cache: Rounding) -> Rounding:
    """What becomes of queries and attention weights over such a cache: AVX-512 multiplies numbers
    of its type, the other kernels widen them.
    """
    return cache if ops.CPU_ISA in ("avx512", "amx") else exact


def in_digits(x: Tensor, name: str) -> Tensor:
    """To digits per 32 columns, as the fast kernels of weights of 4 bits do; of more bits they see
    finer steps, 127 * 256, except for the one digit.
    """
    return round_to_steps(x, 127 if name.endswith(ONE_DIGIT) else 119 * 16)


def round_to_steps(x: Tensor, steps: int) -> Tensor:
    """To the nearest of `steps` steps up to the largest element, per 32 columns."""
    blocks = x.view(x.shape[0], -1, 32)
    scale = blocks.abs().amax(-1, keepdim=True) / steps
    scale[scale == 0] = 1
    return ((blocks / scale).round() * scale).view_as(x)


@dataclass
class Reference:
    """Weights under Hugging Face's names, f64; rotary pairs are neighbours if `interleaved`."""

    weights: dict[str, Tensor]
    layers: int
    heads: int
    kv_heads: int
    eps: float
    theta: float
    interleaved: bool
    round_inputs: Rounding = exact  # of every linear layer
    round_cache: Rounding = exact  # keys and values
    round_products: Rounding = exact  # queries and attention weights

    def with_rounding(self, inputs: Rounding = exact, cache: Rounding = exact) -> Reference:
        """The same weights, with the inputs of linear layers or the KV cache rounded, and what is
        multiplied with the cache as well where the kernels do so.
        """
        products = of_products(cache)
        return replace(self, round_inputs=inputs, round_cache=cache, round_products=products)

    @classmethod
    def from_directory(cls, folder: Path) -> Reference:
        """Read config.json and model.safetensors."""
        config = json.loads((folder / "config.json").read_text())
        tensors = load_file(folder / "model.safetensors")
        return cls(
            weights={name: tensor.double() for name, tensor in tensors.items()},
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            kv_heads=config["num_key_value_heads"],
            eps=config["rms_norm_eps"],
            theta=config["rope_theta"],
            interleaved=False,
        )

    @classmethod
    def from_gguf(cls, path: Path) -> Reference:
        """Read and dequantize with the `gguf` package, an implementation that is not ours."""
        import gguf  # noqa: PLC0415 - only this needs it

        reader = gguf.GGUFReader(path)
        field = {name: item.contents() for name, item in reader.fields.items()}
        names = {
            "token_embd": "model.embed_tokens",
            "output_norm": "model.norm",
            "output": "lm_head",
            "attn_norm": "input_layernorm",
            "attn_q": "self_attn.q_proj",
            "attn_k": "self_attn.k_proj",
            "attn_v": "self_attn.v_proj",
            "attn_q_norm": "self_attn.q_norm",
            "attn_k_norm": "self_attn.k_norm",
            "attn_output": "self_attn.o_proj",
            "ffn_norm": "post_attention_layernorm",
            "ffn_gate": "mlp.gate_proj",
            "ffn_up": "mlp.up_proj",
            "ffn_down": "mlp.down_proj",
        }
        weights = {}
        for tensor in reader.tensors:
            parts = tensor.name.split(".")
            prefix = f"model.layers.{parts[1]}." if parts[0] == "blk" else ""
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            name = f"{prefix}{names[parts[-2]]}.{parts[-1]}"
            weights[name] = torch.from_numpy(values.copy()).double()
        family = field["general.architecture"]
        return cls(
            weights=weights,
            layers=field[f"{family}.block_count"],
            heads=field[f"{family}.attention.head_count"],
            kv_heads=field[f"{family}.attention.head_count_kv"],
            eps=field[f"{family}.attention.layer_norm_rms_epsilon"],
            theta=field[f"{family}.rope.freq_base"],
            interleaved=family == "llama",
        )

    def logits(self, tokens: list[int]) -> Tensor:
        """f64 [len(tokens), vocab]: what follows each prefix."""
        x = self.weights["model.embed_tokens.weight"][torch.tensor(tokens)]
        for layer in range(self.layers):
            x = x + self._attention(x, f"model.layers.{layer}.")
            x = x + self._mlp(x, f"model.layers.{layer}.")
        x = self._norm(x, "model.norm.weight")
        head = self.weights.get("lm_head.weight", self.weights["model.embed_tokens.weight"])
        return self.round_inputs(x, "lm_head") @ head.T

    def greedy(self, prompt: list[int], count: int) -> list[int]:
        """`count` most likely tokens after `prompt`."""
        tokens = list(prompt)
        for _ in range(count):
            tokens.append(int(self.logits(tokens)[-1].argmax()))
        return tokens[len(prompt) :]

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + self.eps).sqrt() * self.weights[name]

    def _linear(self, x: Tensor, name: str) -> Tensor:
        y = self.round_inputs(x, name) @ self.weights[name + ".weight"].T
        bias = self.weights.get(name + ".bias")
        return y if bias is None else y + bias

    def _attention(self, x: Tensor, prefix: str) -> Tensor:
        length = x.shape[0]
        x = self._norm(x, prefix + "input_layernorm.weight")
        prefix += "self_attn."
        q = self._linear(x, prefix + "q_proj").view(length, self.heads, -1)
        k = self._linear(x, prefix + "k_proj").view(length, self.kv_heads, -1)
        if prefix + "q_norm.weight" in self.weights:
            q = self._norm(q, prefix + "q_norm.weight")
            k = self._norm(k, prefix + "k_norm.weight")
        q, k = self._rotate(q), self._rotate(k)
        v = self._linear(x, prefix + "v_proj").view(length, self.kv_heads, -1)
        group = self.heads // self.kv_heads
        # The kernels round queries behind the factor that makes exp a power of two.
        q = self.round_products(q * (LOG2_E / q.shape[-1] ** 0.5), prefix)
        k, v = self.round_cache(k, prefix), self.round_cache(v, prefix)
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        scores = torch.einsum("qhd,khd->hqk", q, k) / LOG2_E
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        weights = scores.masked_fill(future, -torch.inf).softmax(-1)
        weights = self.round_products(weights, prefix)
        mixed = torch.einsum("hqk,khd->qhd", weights, v).reshape(length, -1)
        return self._linear(mixed, prefix + "o_proj")

    def _rotate(self, x: Tensor) -> Tensor:
        """x [length, heads, dim] turned by position, each pair as one complex number."""
        length, _, dim = x.shape
        frequencies = self.theta ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        angles = torch.outer(torch.arange(length, dtype=torch.float64), frequencies)
        turn = torch.polar(torch.ones_like(angles), angles)[:, None, :]
        if self.interleaved:
            pairs = torch.complex(x[..., 0::2], x[..., 1::2]) * turn
            return torch.stack([pairs.real, pairs.imag], dim=-1).flatten(-2)
        half = dim // 2
        pairs = torch.complex(x[..., :half], x[..., half:]) * turn
        return torch.cat([pairs.real, pairs.imag], dim=-1)

    def _mlp(self, x: Tensor, prefix: str) -> Tensor:
        x = self._norm(x, prefix + "post_attention_layernorm.weight")
        gate = self._linear(x, prefix + "mlp.gate_proj")
        up = self._linear(x, prefix + "mlp.up_proj")
        return self._linear(torch.nn.functional.silu(gate) * up, prefix + "mlp.down_proj")
