# SPDX-License-Identifier: Apache-2.0
"""GGUF files of K-quants, one type or mixed as llama.cpp's Q4_K_M is, against float64.

The `gguf` package reads these types but does not make them, so the blocks are random bits under
scales that give weights of the size a model has.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from tests.exactness.compare import check_divergence, relative_rms, rounding_tolerance
from tests.exactness.reference import Reference, bfloat16, in_digits
from tests.models import BOS, TINY, add_sizes
from tests.unit.engine.drive import finish, request
from vllm.config.engine import EngineConfig
from vllm.engine.core import EngineCore
from vllm.kernels import ops
from vllm.loader.gguf_names import gguf_name
from vllm.models.hf_config import from_hf
from vllm.models.shapes import tensor_shapes

Kind = gguf.GGMLQuantizationType
PROMPT = [BOS, *range(1, 40)]
CONFIG = TINY | {"hidden_size": 256, "intermediate_size": 512}
SCALES = {Kind.Q4_K: (0, 2), Kind.Q5_K: (0, 2), Kind.Q6_K: (208,)}
SPREAD = {Kind.Q4_K: 16.0 * 32, Kind.Q5_K: 32.0 * 32, Kind.Q6_K: 32.0 * 64}


def mixed(name: str) -> Kind:
    """As Q4_K_M: what costs most precision has six bits."""
    six = ("v_proj.weight", "down_proj.weight", "lm_head.weight")
    return Kind.Q6_K if name.endswith(six) else Kind.Q4_K


def random_blocks(kind: Kind, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """uint8 [rows, bytes]: valid blocks whose weights spread by about 1 / sqrt(columns)."""
    columns, size = gguf.GGML_QUANT_SIZES[kind]
    raw = rng.integers(0, 256, (shape[0], shape[1] // columns, size), np.uint8)
    for place in SCALES[kind]:
        halves = rng.uniform(0.5, 1.5, raw.shape[:2]) * 3 / SPREAD[kind] / shape[1] ** 0.5
        raw[..., place : place + 2] = halves.astype(np.float16)[..., None].view(np.uint8)
    return raw.reshape(shape[0], -1)


def write(path: Path, kind_of: Callable[[str], Kind]) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    add_sizes(writer, CONFIG)
    rng = np.random.default_rng(11)
    for name, shape in tensor_shapes(from_hf(CONFIG, "CONFIG")).items():
        if len(shape) == 1:
            writer.add_tensor(gguf_name(name), np.ones(shape, np.float32))
            continue
        kind = kind_of(name)
        writer.add_tensor(gguf_name(name), random_blocks(kind, shape, rng), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


FILES: dict[str, Callable[[str], Kind]] = {
    "Q4_K": lambda _: Kind.Q4_K,
    "Q5_K": lambda _: Kind.Q5_K,
    "Q6_K": lambda _: Kind.Q6_K,
    "Q4_K and Q6_K": mixed,
}


@pytest.mark.parametrize("name", FILES)
def test_dequantized_weights_equal_the_reference(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "m.gguf", FILES[name])
    engine = EngineCore(EngineConfig(str(path), dequantize=True))
    found = finish(engine, [request("r", PROMPT, max_tokens=12)])["r"].tokens
    assert found == Reference.from_gguf(path).greedy(PROMPT, 12)


@pytest.mark.parametrize("name", FILES)
def test_packed_weights_stay_within_the_rounding(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "m.gguf", FILES[name])
    reference = Reference.from_gguf(path)
    engine = EngineCore(EngineConfig(str(path)))
    tokens = finish(engine, [request("r", PROMPT, max_tokens=12)])["r"].tokens
    sequence = PROMPT + tokens[:-1]
    expected = reference.logits(sequence)
    rounded = reference.with_rounding(inputs=in_digits, cache=bfloat16).logits(sequence)
    tolerance = rounding_tolerance(rounded, expected)
    assert relative_rms(engine.runner.logits[:1], expected[-1:]) < 2 * tolerance
    check_divergence(expected, len(PROMPT), tokens, tolerance)


def test_one_format_is_one_layer_and_mixed_ones_are_split(tmp_path: Path) -> None:
    runner = EngineCore(EngineConfig(str(write(tmp_path / "m.gguf", mixed)))).runner
    layer = runner.model.layers[0]
    assert [part.qtype for part in layer.attention.qkv.parts] == [ops.GGML_Q4_K, ops.GGML_Q6_K]
    assert layer.mlp.gate_up.coarse_rows == CONFIG["intermediate_size"]
    assert layer.attention.o.coarse_rows == CONFIG["hidden_size"]
    assert [part.coarse_rows for part in layer.attention.qkv.parts] == [0, 0]
