# SPDX-License-Identifier: Apache-2.0
"""Tiny models whose linear layers are in FP8, beside the same values in float32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tests.models import make_llama

LARGEST = 448.0  # of e4m3
LINEAR = ("_proj.weight", "w1.weight", "w2.weight", "w3.weight")


def make_fp8(folder: Path, *, per_row: bool, method: str, **config: Any) -> tuple[Path, Path]:
    """A directory with FP8 weights as `method` writes them, and one with their values in f32."""
    plain = make_llama(folder / "plain", seed=4, **config)
    packed = make_llama(folder / "fp8", seed=4, **config)
    tensors, stored = load_file(plain / "model.safetensors"), {}
    for name, tensor in tensors.items():
        stored[name] = tensor
        if name.endswith(LINEAR):
            largest = tensor.abs().amax(1, keepdim=True) if per_row else tensor.abs().max()
            scale = (largest / LARGEST).float()
            stored[name] = (tensor / scale).to(torch.float8_e4m3fn)
            stored[name + "_scale"] = scale.clone()
            tensors[name] = stored[name].float() * scale
    save_file(tensors, plain / "model.safetensors")
    save_file(stored, packed / "model.safetensors")
    values = json.loads((packed / "config.json").read_text())
    quantization = {"quant_method": method, "activation_scheme": "dynamic"}
    text = json.dumps(values | {"quantization_config": quantization})
    (packed / "config.json").write_text(text)
    return packed, plain
