# SPDX-License-Identifier: Apache-2.0
"""Rotary embedding as Hugging Face's config.json describes it.

Owns the names of its keys, old and new, and their defaults. Must not know tensors.
"""

from __future__ import annotations

import math
from typing import Any

from vllm.models.config import ROPE_SCALINGS, ModelConfigError, RopeConfig
from vllm.models.fields import Fields

_OLD_NAMES = {"su": "longrope"}


def read_rope(top: Fields, dim: int, length: int, kind: str | None = None) -> RopeConfig:
    """`dim`: size of what is rotated before `partial_rotary_factor`; `length`: positions of the
    model; `kind`: which of several, where the parameters are kept by kind of attention.
    """
    fields = parameters(top, kind)
    scaling = _scaling(fields)
    values: dict[str, Any] = {
        "theta": fields.number("rope_theta", top.number("rope_theta", 10000.0)),
        "dim": int(dim * _rotated_share(fields, top)),
        "scaling": scaling,
        "original_max_position": _original(fields, top, length),
    }
    if scaling is not None and scaling != "longrope":
        values["factor"] = fields.number("factor")
    if scaling == "llama3":
        values["low_freq_factor"] = fields.number("low_freq_factor", RopeConfig.low_freq_factor)
        values["high_freq_factor"] = fields.number("high_freq_factor", RopeConfig.high_freq_factor)
    elif scaling == "yarn":
        values |= _yarn(fields)
    elif scaling == "longrope":
        values |= _longrope(fields, length, values["original_max_position"])
    return RopeConfig(**values)


def parameters(top: Fields, kind: str | None = None) -> Fields:
    """The object with the parameters: `rope_parameters`, `rope_scaling` in older files."""
    fields = top.object("rope_parameters" if top.has("rope_parameters") else "rope_scaling")
    if kind is not None and fields.has(kind):
        return fields.object(kind)
    return fields


def yarn_magnitude(factor: float, share: float = 1.0) -> float:
    """YaRN's temperature as a factor on q and k together (Peng et al. 2023, arXiv 2309.00071)."""
    return 1.0 if factor <= 1.0 else 0.1 * share * math.log(factor) + 1.0


def _scaling(fields: Fields) -> str | None:
    kind = fields.values.get("rope_type", fields.values.get("type", "default"))
    kind = _OLD_NAMES.get(kind, kind) if isinstance(kind, str) else kind
    if fields.has("mrope_section") or kind == "mrope":
        raise ModelConfigError(
            f"{fields.source}: mrope_section {fields.values.get('mrope_section')!r} (positions in "
            "several dimensions) is not supported; only text models are"
        )
    if kind == "default":
        return None
    if kind not in ROPE_SCALINGS:
        raise ModelConfigError(
            f"{fields.source}: rope type {kind!r} is not supported; default, "
            f"{', '.join(ROPE_SCALINGS)} are"
        )
    return kind


def _rotated_share(fields: Fields, top: Fields) -> float:
    key = "partial_rotary_factor"
    share = fields.number(key, top.number(key, 1.0))
    if not 0 < share <= 1:
        raise (fields if fields.has(key) else top).wrong(key, "a number above 0, at most 1,")
    return share


def _original(fields: Fields, top: Fields, length: int) -> int:
    key = "original_max_position_embeddings"
    return fields.integer(key, top.integer(key, length))


def _yarn(fields: Fields) -> dict[str, Any]:
    factor = fields.number("factor")
    shares = (fields.number("mscale", 0.0), fields.number("mscale_all_dim", 0.0))
    magnitude = yarn_magnitude(factor)
    if all(shares):
        magnitude = yarn_magnitude(factor, shares[0]) / yarn_magnitude(factor, shares[1])
    return {
        "beta_fast": fields.number("beta_fast", RopeConfig.beta_fast),
        "beta_slow": fields.number("beta_slow", RopeConfig.beta_slow),
        "truncate": fields.flag("truncate", True),
        "attention_factor": fields.number("attention_factor", magnitude),
    }


def _longrope(fields: Fields, length: int, original: int) -> dict[str, Any]:
    """LongRoPE (Ding et al. 2024, arXiv 2402.13753); the magnitude as Phi-3 defines it."""
    if original < 2:  # its logarithm divides
        raise ModelConfigError(
            f"{fields.source}: original_max_position_embeddings is {original}, at least 2 is needed"
        )
    stretch = length / original if original != length else fields.number("factor", 1.0)
    magnitude = 1.0
    if stretch > 1.0:
        magnitude = math.sqrt(1.0 + math.log(stretch) / math.log(original))
    return {
        "short_factors": fields.numbers("short_factor"),
        "long_factors": fields.numbers("long_factor"),
        "attention_factor": fields.number("attention_factor", magnitude),
    }
