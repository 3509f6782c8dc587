# SPDX-License-Identifier: Apache-2.0
"""What a decoder looks like: sizes, rotary embedding, experts, attention's variants.

Owns the meaning of the numbers and their checks, whatever file they come from. Must not know
tensors: importing torch here is a bug.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from vllm.errors import ModelError

MOST_LAYERS = 1 << 14
ROPE_SCALINGS = ("linear", "dynamic", "yarn", "llama3", "longrope")
_LEAST_FACTOR, _MOST_FACTOR = 1e-9, 1e9  # of rotary embedding: beyond, positions overflow


class ModelConfigError(ModelError):
    """A model configuration that is incomplete, contradictory or unsupported; says which value."""


def at_least(owner: Any, low: int, *names: str) -> None:
    """Refuse fields below `low`."""
    for name in names:
        if getattr(owner, name) < low:
            raise ModelConfigError(f"{name} is {getattr(owner, name)}, at least {low} is needed")


@dataclass(frozen=True)
class RopeConfig:
    """Rotary embedding (Su et al. 2021, RoFormer) and its stretching to longer contexts.

    `interleaved` pairs neighbours (2i, 2i+1), as GGUF stores Llama's weights; otherwise element i
    pairs with i + dim/2, as Hugging Face does. `scaling` is None or one of `ROPE_SCALINGS`; which
    fields count for which is in `vllm.layers.rope`. Cosines and sines are multiplied by
    `attention_factor`. `short_factors` and `long_factors` divide the frequencies one by one.
    """

    theta: float = 10000.0
    dim: int = 64
    interleaved: bool = False
    scaling: str | None = None
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position: int = 8192
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    attention_factor: float = 1.0
    short_factors: tuple[float, ...] = ()
    long_factors: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("theta", "factor", "attention_factor", "beta_fast", "beta_slow"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ModelConfigError(f"rope {name} is {value}, a number above 0 is needed")
        for name in ("factor", "beta_fast", "beta_slow"):
            if not _LEAST_FACTOR <= getattr(self, name) <= _MOST_FACTOR:
                raise ModelConfigError(
                    f"rope {name} is {getattr(self, name)}, {_LEAST_FACTOR} to {_MOST_FACTOR} is "
                    "needed"
                )
        at_least(self, 1, "original_max_position")
        self._check_scaling()
        if not 0 < self.low_freq_factor < self.high_freq_factor:
            raise ModelConfigError(
                f"rope low_freq_factor is {self.low_freq_factor} and high_freq_factor "
                f"{self.high_freq_factor}; the first must be above 0 and below the second"
            )
        if self.scaling == "longrope" or self.short_factors or self.long_factors:
            self._check_factors("short_factors")
            self._check_factors("long_factors")

    def _check_scaling(self) -> None:
        """Both formulas divide by what is 0 here."""
        if self.scaling == "dynamic" and self.dim <= 2:
            raise ModelConfigError(
                f"the rotary dimension is {self.dim}; dynamic scaling needs at least 4"
            )
        if self.scaling == "yarn" and self.theta <= 1:
            raise ModelConfigError(f"rope theta is {self.theta}, yarn needs a number above 1")

    def _check_factors(self, name: str) -> None:
        factors = getattr(self, name)
        if len(factors) != self.dim // 2:
            raise ModelConfigError(
                f"rope {name} has {len(factors)} numbers, {self.dim // 2} are needed: one for each "
                f"pair of {self.dim} rotated dimensions"
            )
        if not all(math.isfinite(factor) and factor > 0 for factor in factors):
            raise ModelConfigError(f"rope {name} has a number that is not above 0")


@dataclass(frozen=True)
class ExpertNames:
    """What a checkpoint calls the parts of a layer's mixture."""

    block: str = "mlp"
    gate: str = "gate_proj"
    up: str = "up_proj"
    down: str = "down_proj"


@dataclass(frozen=True)
class ExpertsConfig:
    """A mixture of experts (Shazeer et al. 2017); the routing is that of `ops.route_experts`.

    `layers` says which layers have one. `shared` is the inner size of the experts that every token
    goes to, 0 without.
    """

    count: int
    top: int
    inner: int
    layers: tuple[bool, ...]
    names: ExpertNames = ExpertNames()
    sigmoid: bool = False
    correction_bias: bool = False
    groups: int = 1
    top_groups: int = 1
    group_best: int = 1
    renormalize: bool = True
    factor: float = 1.0
    shared: int = 0

    def __post_init__(self) -> None:
        at_least(self, 1, "count", "top", "inner", "groups", "top_groups", "group_best")
        if self.count % self.groups or self.top_groups > self.groups:
            raise ModelConfigError(
                f"{self.count} experts in {self.groups} groups of which {self.top_groups} are "
                "chosen: groups must be of equal size and as many as are chosen"
            )
        size = self.count // self.groups
        if self.group_best > size or self.top > self.top_groups * size:
            raise ModelConfigError(
                f"{self.top} of {self.count} experts are to be chosen from {self.top_groups} of "
                f"{self.groups} groups, which have {size} each"
            )
        if not math.isfinite(self.factor):
            raise ModelConfigError(f"the routed scaling factor is {self.factor}")


@dataclass(frozen=True)
class LatentConfig:
    """Multi-head latent attention (DeepSeek-AI 2024, arXiv 2405.04434): ranks of the projections
    (`q_rank` None: queries are projected at once) and parts of a head.
    """

    q_rank: int | None
    kv_rank: int
    nope_dim: int  # of queries and keys, not rotated
    rope_dim: int  # of queries and keys, rotated; all key heads share it
    value_dim: int

    def __post_init__(self) -> None:
        at_least(self, 1, "kv_rank", "nope_dim", "rope_dim", "value_dim")
        if self.q_rank is not None:
            at_least(self, 1, "q_rank")


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of one model. `dtype` is the stored one of dense weights, where the file says so.

    `attention_bias` is of queries, keys and values, `output_bias` of the projection behind them;
    with `qk_norm` every head of queries and keys is normed. `windows` has the number of tokens that
    each layer's attention sees (0: all), empty: all see all; layers with a window use `local_rope`
    where there is one. Soft caps are off at 0.
    """

    architecture: str
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    max_position: int
    rms_norm_eps: float
    rope: RopeConfig
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    output_bias: bool = False
    qk_norm: bool = False
    mlp_bias: bool = False
    dtype: str | None = None
    activation: str = "silu"  # or "gelu_tanh"
    windows: tuple[int, ...] = ()
    local_rope: RopeConfig | None = None
    attention_scale: float | None = None  # None: 1 / sqrt(head_dim)
    attention_soft_cap: float = 0.0
    logit_soft_cap: float = 0.0
    embedding_scale: float = 1.0
    norm_offset: float = 0.0  # added to the weights of norms as they are stored
    output_norms: bool = False  # norms behind attention and MLP, besides those before
    fused_projections: bool = False  # one tensor for q, k and v and one for gate and up
    experts: ExpertsConfig | None = None
    latent: LatentConfig | None = None

    def __post_init__(self) -> None:
        at_least(self, 1, "hidden_size", "intermediate_size", "num_layers", "num_heads")
        at_least(self, 1, "num_kv_heads", "head_dim", "vocab_size", "max_position")
        if not (math.isfinite(self.rms_norm_eps) and self.rms_norm_eps >= 0):
            raise ModelConfigError(f"rms_norm_eps is {self.rms_norm_eps}, at least 0 is needed")
        if self.num_heads % self.num_kv_heads:
            raise ModelConfigError(
                f"num_heads ({self.num_heads}) is not a multiple of num_kv_heads "
                f"({self.num_kv_heads})"
            )
        for rope in (self.rope, self.local_rope):
            if rope and (rope.dim % 2 or not 0 < rope.dim <= self.head_dim):
                raise ModelConfigError(
                    f"the rotary dimension is {rope.dim}; it must be even and at most the head "
                    f"size {self.head_dim}"
                )
        self._check_layers()
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ModelConfigError(
                f"attention_scale is {self.scale}, a finite number above 0 is needed"
            )
        for name in ("attention_soft_cap", "logit_soft_cap"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ModelConfigError(f"{name} is {value}, at least 0 is needed (0: off)")

    def _check_layers(self) -> None:
        for name, each in (
            ("windows", self.windows),
            ("experts", self.experts.layers if self.experts else ()),
        ):
            if each and len(each) != self.num_layers:
                raise ModelConfigError(
                    f"{name} are given for {len(each)} layers, the model has {self.num_layers}"
                )
        if any(window < 0 for window in self.windows):
            raise ModelConfigError(f"a sliding window is {min(self.windows)}, at least 1 is needed")

    @property
    def longest_position(self) -> int:
        """Positions that may be asked for: dynamic scaling stretches beyond the trained ones."""
        stretch = self.rope.factor if self.rope.scaling == "dynamic" else 1.0
        return int(self.max_position * stretch)

    @property
    def scale(self) -> float:
        """What scores are multiplied by."""
        return self.head_dim**-0.5 if self.attention_scale is None else self.attention_scale

    @property
    def cache_shape(self) -> tuple[int, int, int]:
        """What a layer keeps of a token: tensors, heads, elements of a head. Keys and values; one
        vector for all heads where attention is latent.
        """
        if self.latent is not None:
            return 1, 1, self.latent.rope_dim + self.latent.kv_rank
        return 2, self.num_kv_heads, self.head_dim

    @property
    def reach(self) -> int:
        """Tokens that the layer which sees most sees; 0: all."""
        return max(self.windows) if self.windows and all(self.windows) else 0

    def window(self, layer: int) -> int:
        """Tokens that this layer's attention sees, the querying one included; 0: all."""
        return self.windows[layer] if self.windows else 0

    def has_experts(self, layer: int) -> bool:
        return self.experts is not None and self.experts.layers[layer]
