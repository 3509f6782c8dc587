# SPDX-License-Identifier: Apache-2.0
"""Forward passes of all families in float64, from their papers, sharing no code with the engine.

`FamilyReference.from_directory` reads config.json and the weights of a Hugging Face directory. As
in `reference`, a whole sequence is computed at once and as plainly as possible: every expert is
computed for every token, every mask is spelled out.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import gelu, silu

from tests.exactness.reference import Rounding, exact, of_products


@dataclass
class FamilyReference:
    """Weights under Hugging Face's names, f64; `served` is the longest context of the engine."""

    config: dict[str, Any]
    weights: dict[str, Tensor]
    served: int
    round_inputs: Rounding = exact  # of every linear layer but the router's
    round_cache: Rounding = exact  # keys and values
    round_products: Rounding = exact  # queries and attention weights

    @classmethod
    def from_directory(cls, folder: Path, served: int) -> FamilyReference:
        config = json.loads((folder / "config.json").read_text())
        tensors = load_file(folder / "model.safetensors")
        weights = {name: tensor.double() for name, tensor in tensors.items()}
        return cls(config, weights, served)

    def with_rounding(self, inputs: Rounding = exact, cache: Rounding = exact) -> FamilyReference:
        products = of_products(cache)
        return replace(self, round_inputs=inputs, round_cache=cache, round_products=products)

    @property
    def gemma(self) -> bool:
        return self.config["model_type"].startswith("gemma")

    def logits(self, tokens: list[int]) -> Tensor:
        """f64 [len(tokens), vocab]: what follows each prefix."""
        embedding = self.weights["model.embed_tokens.weight"]
        x = embedding[torch.tensor(tokens)]
        if self.gemma:
            x = x * self.config["hidden_size"] ** 0.5
        for layer in range(self.config["num_hidden_layers"]):
            x = self._layer(x, layer)
        x = self.round_inputs(self._norm(x, "model.norm"), "lm_head")
        cap = self.config.get("final_logit_softcapping")
        logits = x @ self.weights.get("lm_head.weight", embedding).T
        return cap * torch.tanh(logits / cap) if cap else logits

    def _layer(self, x: Tensor, layer: int) -> Tensor:
        prefix = f"model.layers.{layer}."
        attention = self._attention(self._norm(x, prefix + "input_layernorm"), layer)
        if prefix + "pre_feedforward_layernorm.weight" in self.weights:
            x = x + self._norm(attention, prefix + "post_attention_layernorm")
            y = self._feed_forward(self._norm(x, prefix + "pre_feedforward_layernorm"), prefix)
            return x + self._norm(y, prefix + "post_feedforward_layernorm")
        x = x + attention
        y = self._norm(x, prefix + "post_attention_layernorm")
        return x + self._feed_forward(y, prefix)

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight = self.weights[name + ".weight"] + (1.0 if self.gemma else 0.0)
        mean = x.pow(2).mean(-1, keepdim=True)
        return x / (mean + self.config["rms_norm_eps"]).sqrt() * weight

    def _linear(self, x: Tensor, name: str) -> Tensor:
        y = self.round_inputs(x, name) @ self.weights[name + ".weight"].T
        bias = self.weights.get(name + ".bias")
        return y if bias is None else y + bias

    # Attention

    def _attention(self, x: Tensor, layer: int) -> Tensor:
        prefix = f"model.layers.{layer}.self_attn."
        latent = "kv_lora_rank" in self.config
        q, k, v = self._latent_heads(x, prefix) if latent else self._heads(x, prefix, layer)
        if not latent:
            k, v = self.round_cache(k, "k"), self.round_cache(v, "v")
        q = self.round_products(q, "q")
        group = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        scores = torch.einsum("qhd,khd->hqk", q, k) * self._scale(q.shape[-1])
        cap = self.config.get("attn_logit_softcapping")
        scores = cap * torch.tanh(scores / cap) if cap else scores
        weights = scores.masked_fill(self._hidden(len(x), layer), -torch.inf).softmax(-1)
        weights = self.round_products(weights, "weights")
        mixed = torch.einsum("hqk,khd->qhd", weights, v).flatten(1)
        return self._linear(mixed, prefix + "o_proj")

    def _heads(self, x: Tensor, prefix: str, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        heads, kv_heads = self.config["num_attention_heads"], self.config["num_key_value_heads"]
        dim = self.config.get("head_dim") or self.config["hidden_size"] // heads
        if prefix + "qkv_proj.weight" in self.weights:
            sizes = [heads * dim, kv_heads * dim, kv_heads * dim]
            parts = self._linear(x, prefix + "qkv_proj").split(sizes, dim=-1)
        else:
            parts = tuple(self._linear(x, f"{prefix}{n}_proj") for n in ("q", "k", "v"))
        q, k, v = (part.view(len(x), -1, dim) for part in parts)
        if prefix + "q_norm.weight" in self.weights:
            q, k = self._norm(q, prefix + "q_norm"), self._norm(k, prefix + "k_norm")
        return self._rotate(q, layer), self._rotate(k, layer), v

    def _latent_heads(self, x: Tensor, prefix: str) -> tuple[Tensor, Tensor, Tensor]:
        """DeepSeek-V2's paper, equations 9 to 19: all heads share the rotated part of a key."""
        c = self.config
        heads, nope, rope = c["num_attention_heads"], c["qk_nope_head_dim"], c["qk_rope_head_dim"]
        low = x
        if c["q_lora_rank"] is not None:
            low = self._norm(self._linear(x, prefix + "q_a_proj"), prefix + "q_a_layernorm")
        name = "q_proj" if c["q_lora_rank"] is None else "q_b_proj"
        q = self._linear(low, prefix + name).view(len(x), heads, nope + rope)
        compressed = self._linear(x, prefix + "kv_a_proj_with_mqa")
        latent, shared = compressed.split([c["kv_lora_rank"], rope], dim=-1)
        latent = self.round_cache(self._norm(latent, prefix + "kv_a_layernorm"), "latent")
        expanded = self._linear(latent, prefix + "kv_b_proj").view(len(x), heads, -1)
        k, v = expanded.split([nope, c["v_head_dim"]], dim=-1)
        shared = self.round_cache(self._rotate(shared[:, None], 0), "rotated")
        shared = shared.expand(-1, heads, -1)
        q = torch.cat([q[..., :nope], self._rotate(q[..., nope:], 0)], dim=-1)
        return q, torch.cat([k, shared], dim=-1), v

    def _scale(self, dim: int) -> float:
        if "query_pre_attn_scalar" in self.config:
            return self.config["query_pre_attn_scalar"] ** -0.5
        rope = self.config.get("rope_scaling") or {}
        share = rope.get("mscale_all_dim", 0)
        return dim**-0.5 * (1 + 0.1 * share * math.log(rope.get("factor", 1))) ** 2

    def _slides(self, layer: int) -> bool:
        """Whether the layer's attention has a window."""
        c = self.config
        kind = c["model_type"]
        if kind == "gemma2":
            return layer % 2 == 0
        if kind == "gemma3_text":
            return (layer + 1) % c["sliding_window_pattern"] != 0
        if kind == "qwen2":
            return c.get("use_sliding_window", False) and layer >= c["max_window_layers"]
        return c.get("sliding_window") is not None

    def _hidden(self, length: int, layer: int) -> Tensor:
        """bool [length, length]: keys that a query does not see."""
        distance = torch.arange(length)[:, None] - torch.arange(length)[None, :]
        hidden = distance < 0
        if self._slides(layer):
            hidden = hidden | (distance >= self.config["sliding_window"])
        return hidden

    # Rotary embedding

    def _rotate(self, x: Tensor, layer: int) -> Tensor:
        """x [length, heads, dim] turned by position, each pair as one complex number."""
        share = self.config.get("partial_rotary_factor", 1.0)
        rotated = int(x.shape[-1] * share)
        frequencies, magnitude = self._frequencies(rotated, layer)
        angles = torch.outer(torch.arange(len(x), dtype=torch.float64), frequencies)
        turn = torch.polar(torch.full_like(angles, magnitude), angles)[:, None, :]
        x, rest = x[..., :rotated], x[..., rotated:]
        if "kv_lora_rank" in self.config:  # neighbours are pairs
            pairs = torch.complex(x[..., 0::2], x[..., 1::2]) * turn
            return torch.stack([pairs.real, pairs.imag], dim=-1).flatten(-2)
        first, second = x.chunk(2, dim=-1)
        pairs = torch.complex(first, second) * turn
        return torch.cat([pairs.real, pairs.imag, rest], dim=-1)

    def _frequencies(self, dim: int, layer: int) -> tuple[Tensor, float]:
        c = self.config
        theta, rope = c.get("rope_theta", 10000.0), c.get("rope_scaling") or {}
        if c["model_type"] == "gemma3_text" and self._slides(layer):
            theta, rope = c["rope_local_base_freq"], {}
        kind = rope.get("rope_type", rope.get("type"))
        trained = rope.get("original_max_position_embeddings") or c.get(
            "original_max_position_embeddings", c["max_position_embeddings"]
        )
        steps = torch.arange(0, dim, 2).double() / dim
        plain = theta**-steps
        if kind == "linear":
            return plain / rope["factor"], 1.0
        if kind == "dynamic":
            if self.served > trained:
                stretch = rope["factor"] * self.served / trained - rope["factor"] + 1
                plain = (theta * stretch ** (dim / (dim - 2))) ** -steps
            return plain, 1.0
        if kind == "llama3":
            return self._llama3(plain, rope, trained), 1.0
        if kind == "yarn":
            return self._yarn(plain, rope, trained, theta, dim)
        if kind == "longrope":
            name = "long_factor" if self.served > trained else "short_factor"
            stretch = c["max_position_embeddings"] / trained
            return (
                plain / torch.tensor(rope[name]).double(),
                math.sqrt(1 + math.log(stretch) / math.log(trained)),
            )
        return plain, 1.0

    @staticmethod
    def _llama3(plain: Tensor, rope: dict[str, Any], trained: int) -> Tensor:
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        result = []
        for frequency in plain.tolist():
            turns = trained * frequency / (2 * math.pi)
            kept = min(1.0, max(0.0, (turns - low) / (high - low)))
            result.append(frequency * (kept + (1 - kept) / rope["factor"]))
        return torch.tensor(result, dtype=torch.float64)

    @staticmethod
    def _yarn(
        plain: Tensor, rope: dict[str, Any], trained: int, theta: float, dim: int
    ) -> tuple[Tensor, float]:
        """The paper's appendix, with its ramp over whole dimensions as everybody implements it."""
        factor = rope["factor"]
        bounds = [
            dim * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(theta))
            for turns in (rope.get("beta_fast", 32), rope.get("beta_slow", 1))
        ]
        low, high = max(0, math.floor(bounds[0])), min(dim - 1, math.ceil(bounds[1]))
        result = []
        for index, frequency in enumerate(plain.tolist()):
            divided = min(1.0, max(0.0, (index - low) / (high - low)))
            result.append(frequency * (1 - divided) + frequency / factor * divided)
        magnitude = 0.1 * math.log(factor) + 1
        if "mscale" in rope:
            shares = [0.1 * rope[n] * math.log(factor) + 1 for n in ("mscale", "mscale_all_dim")]
            magnitude = shares[0] / shares[1]
        return torch.tensor(result, dtype=torch.float64), magnitude

    # Feed-forward layers

    def _feed_forward(self, x: Tensor, prefix: str) -> Tensor:
        for block in ("mlp.", "block_sparse_moe."):
            if prefix + block + "gate.weight" in self.weights:
                return self._mixture(x, prefix + block)
        return self._mlp(x, prefix + "mlp.")

    def _mlp(self, x: Tensor, prefix: str, names: tuple[str, ...] = ()) -> Tensor:
        gate, up, down = names or ("gate_proj", "up_proj", "down_proj")
        if prefix + "gate_up_proj.weight" in self.weights:
            g, u = self._linear(x, prefix + "gate_up_proj").chunk(2, dim=-1)
        else:
            g, u = self._linear(x, prefix + gate), self._linear(x, prefix + up)
        activated = gelu(g, approximate="tanh") if self.gemma else silu(g)
        return self._linear(activated * u, prefix + down)

    def _mixture(self, x: Tensor, prefix: str) -> Tensor:
        mixtral = prefix.endswith("block_sparse_moe.")
        names = ("w1", "w3", "w2") if mixtral else ()
        shares = self._shares(x, prefix)
        total = torch.zeros_like(x)
        for expert in range(shares.shape[1]):
            y = self._mlp(x, f"{prefix}experts.{expert}.", names)
            total = total + shares[:, expert : expert + 1] * y
        if prefix + "shared_experts.down_proj.weight" in self.weights:
            total = total + self._mlp(x, prefix + "shared_experts.")
        return total

    def _shares(self, x: Tensor, prefix: str) -> Tensor:
        """f64 [length, experts]: what each expert counts for each token, zero if not chosen."""
        c = self.config
        logits = x @ self.weights[prefix + "gate.weight"].T
        sigmoid = c.get("scoring_func") == "sigmoid"
        scores = logits.sigmoid() if sigmoid else logits.softmax(-1)
        choice = scores + self.weights.get(prefix + "gate.e_score_correction_bias", 0.0)
        if c.get("topk_method") in ("group_limited_greedy", "noaux_tc"):
            groups = choice.view(len(x), c["n_group"], -1)
            best = 2 if c["topk_method"] == "noaux_tc" else 1
            ranks = groups.topk(best, dim=-1).values.sum(-1)
            least = ranks.topk(c["topk_group"], dim=-1).values[:, -1:]
            groups = groups.masked_fill((ranks < least)[:, :, None], -torch.inf)
            choice = groups.flatten(1)
        least = choice.topk(c["num_experts_per_tok"], dim=-1).values[:, -1:]
        shares = scores * (choice >= least)
        if c.get("norm_topk_prob", c["model_type"] == "mixtral"):
            shares = shares / shares.sum(-1, keepdim=True)
        return shares * c.get("routed_scaling_factor", 1.0)
