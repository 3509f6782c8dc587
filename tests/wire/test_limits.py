# SPDX-License-Identifier: Apache-2.0
"""The limits this half enforces are those that both halves agreed on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vllm.protocol.codec import ZERO_COPY_THRESHOLD
from vllm.sampling import params

AGREED = json.loads((Path(__file__).parent / "limits.json").read_text(encoding="utf-8"))


def written(bound: params.Bound) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "integer" if bound.integer else "number"}
    for name in ("minimum", "maximum", "exclusive_minimum"):
        if getattr(bound, name) is not None:
            entry[name] = getattr(bound, name)
    return entry | ({"nullable": True} if bound.nullable else {})


def test_parameters() -> None:
    assert {name: written(bound) for name, bound in params.LIMITS.items()} == AGREED["parameters"]


def test_other_limits() -> None:
    assert AGREED["repetition_detection"] == written(params._SIZE)
    assert AGREED["greedy_below"] == params.GREEDY_BELOW
    assert AGREED["integer"] == {"minimum": params.INT64_MIN, "maximum": params.UINT64_MAX}
    assert AGREED["structured_outputs"] == {
        "exactly_one_of": list(params.STRUCTURED_OUTPUT_CONSTRAINTS),
        "backends": list(params.STRUCTURED_OUTPUT_BACKENDS),
    }
    assert AGREED["zero_copy_threshold_bytes"] == ZERO_COPY_THRESHOLD
    low, high = AGREED["logit_bias_clamp"].values()
    assert (low, high) == params.LOGIT_BIAS_RANGE
