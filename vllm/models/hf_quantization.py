# SPDX-License-Identifier: Apache-2.0
"""`quantization_config` of a Hugging Face config.json: which quantized checkpoints are served.

Owns that list: weights in FP8 (e4m3) with one scale per matrix or per row, as the methods `fp8` and
`compressed-tensors` write them. Activations stay in the model's dtype, so their scales and schemes
are not looked at (W8A16). Which tensors are in FP8 the file itself says. Must not know tensors.
"""

from __future__ import annotations

from vllm.models.config import ModelConfigError
from vllm.models.fields import Fields

KEY = "quantization_config"
HINT = "use an unquantized checkpoint, FP8 (e4m3) with scales per matrix or row, or a GGUF file"
FORMATS = ("float-quantized", "naive-quantized")
FP8 = {"num_bits": 8, "type": "float", "symmetric": True}


def check_quantization(fields: Fields) -> None:
    """Raises `ModelConfigError` with the first value that is not served."""
    if not fields.has(KEY):
        return
    values = fields.object(KEY)
    method = values.text("quant_method", "?")
    if method == "fp8":
        _check_fp8(fields, values)
    elif method == "compressed-tensors":
        _check_compressed(fields, values)
    else:
        raise _refusal(fields, "quant_method", method)


def _check_fp8(fields: Fields, values: Fields) -> None:
    if values.has("weight_block_size"):
        raise _refusal(fields, "weight_block_size", values.values["weight_block_size"])
    if (fmt := values.text("fmt", "e4m3")) != "e4m3":
        raise _refusal(fields, "fmt", fmt)


def _check_compressed(fields: Fields, values: Fields) -> None:
    if (fmt := values.text("format", FORMATS[0])) not in FORMATS:
        raise _refusal(fields, "format", fmt)
    for name in values.object("config_groups").values:
        weights = values.object("config_groups").object(name).object("weights")
        for key, expected in FP8.items():
            if weights.values.get(key, expected) != expected:
                raise _refusal(fields, f"weights with {key}", weights.values[key])
        if (strategy := weights.text("strategy", "tensor")) not in ("tensor", "channel"):
            raise _refusal(fields, "strategy", strategy)


def _refusal(fields: Fields, key: str, value: object) -> ModelConfigError:
    return ModelConfigError(f"{fields.source}: {KEY} with {key} {value!r} is not supported; {HINT}")
