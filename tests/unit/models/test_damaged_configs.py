# SPDX-License-Identifier: Apache-2.0
"""Numbers in a config.json that no model can have: one line that names the key, never a trace."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exactness.cases import CASES
from tests.models import TINY
from vllm.layers.rope import cos_sin_table
from vllm.models.config import ModelConfigError, RopeConfig
from vllm.models.fields import Fields
from vllm.models.hf_config import from_hf

LONG = 10**400


def scaled(kind: str, **values: Any) -> dict[str, Any]:
    return {"rope_scaling": {"rope_type": kind} | values}


LONGROPE = {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
DAMAGED: list[tuple[str, dict[str, Any], str]] = [
    ("gemma2", {"query_pre_attn_scalar": -4}, "query_pre_attn_scalar is -4, a number above 0"),
    ("gemma3", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar is 0, a number above 0"),
    ("qwen2", {"layer_types": 1}, "layer_types is 1, a list"),
    ("qwen2", {"layer_types": 1, "use_sliding_window": True}, "layer_types is 1, "),
    ("rope-yarn", scaled("yarn", factor=1e308), "rope factor is 1e+308"),
    ("rope-yarn", scaled("yarn", factor=2, beta_fast=1e308), "rope beta_fast is 1e+308"),
    ("rope-yarn", scaled("yarn", factor=2, beta_slow=1e-320), "rope beta_slow is 1e-320"),
    ("rope-yarn", scaled("yarn", factor=2) | {"rope_theta": 1}, "rope theta is 1.0, "),
    ("rope-dynamic", scaled("dynamic", factor=2) | {"head_dim": 2}, "rotary dimension is 2"),
    (
        "phi3",
        {**scaled("longrope", **LONGROPE), "original_max_position_embeddings": 0},
        "original_max_position_embeddings is 0, at least 2",
    ),
    (
        "phi3",
        {**scaled("longrope", **LONGROPE), "original_max_position_embeddings": 1},
        "original_max_position_embeddings is 1, at least 2",
    ),
    ("phi3", scaled("longrope", **LONGROPE | {"short_factor": [LONG]}), "short_factor is ["),
    ("rope-linear", {"partial_rotary_factor": 1e308}, "partial_rotary_factor is 1e+308"),
    ("rope-linear", {"hidden_size": LONG}, "hidden_size is 1000000"),
    ("rope-linear", {"rms_norm_eps": float("nan")}, "rms_norm_eps is nan, a finite number"),
    ("rope-linear", {"num_hidden_layers": 1 << 40}, "num_hidden_layers is 1099511627776, 1 to"),
    ("gemma3", {"num_hidden_layers": 1 << 40}, "num_hidden_layers is 1099511627776, 1 to"),
    (
        "deepseek-v3",
        scaled("yarn", factor=2, mscale=1, mscale_all_dim=1e300),
        "cannot be computed with",
    ),
    ("deepseek-v3", scaled("yarn", factor=2, mscale_all_dim=-1e308), "cannot be computed with"),
]


def config(name: str, changes: dict[str, Any]) -> Any:
    base = {"architectures": ["Qwen2ForCausalLM"]} if name == "qwen2" else CASES[name]
    return from_hf(TINY | base | changes, "config.json")


@pytest.mark.parametrize(("name", "changes", "words"), DAMAGED)
def test_a_number_that_cannot_be_is_named(name: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelConfigError) as caught:
        config(name, changes)
    message = str(caught.value)
    assert words in message
    assert message.startswith("config.json: ")
    assert "\n" not in message
    assert len(message) < 400


NUMBERS = st.one_of(
    st.sampled_from([0, -1, 1, 2, LONG, -LONG, 1e308, -1e308, 5e-324, 1 << 62, None, "x", [], {}]),
    st.floats(),
    st.integers(),
)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_any_number_in_any_key_is_read_or_refused(data: st.DataObject) -> None:
    """What is read has tables of rotary embedding, too."""
    values = TINY | CASES[data.draw(st.sampled_from(sorted(CASES)))]
    inner = values.get("rope_scaling") or {}
    key = data.draw(st.sampled_from(sorted({*values, *inner} - {"architectures"})))
    changed = {key: data.draw(NUMBERS)}
    values |= {"rope_scaling": inner | changed} if key in inner else changed
    try:
        found = from_hf(values, "config.json")
    except ModelConfigError:
        return
    assert found.scale > 0
    if found.rope.dim <= 1024:
        cos_sin_table(found.rope, 64)


def test_rope_without_its_numbers_is_refused() -> None:
    with pytest.raises(ModelConfigError, match="rope theta is 1"):
        RopeConfig(theta=1.0, scaling="yarn", factor=2.0)
    with pytest.raises(ModelConfigError, match="rotary dimension is 2"):
        RopeConfig(dim=2, scaling="dynamic", factor=2.0)


@pytest.mark.parametrize("scale", [0.0, -0.5, float("inf"), float("nan")])
def test_a_scale_of_scores_is_above_0(scale: float) -> None:
    with pytest.raises(ModelConfigError, match=f"attention_scale is {scale}, a finite number"):
        replace(config("gemma2", {}), attention_scale=scale)


def test_positive() -> None:
    fields = Fields({"a": 0.5, "b": 0}, "f")
    assert (fields.positive("a"), fields.positive("c", 3)) == (0.5, 3.0)
    with pytest.raises(ModelConfigError, match="f: b is 0, a number above 0 is expected"):
        fields.positive("b")
