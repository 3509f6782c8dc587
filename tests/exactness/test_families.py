# SPDX-License-Identifier: Apache-2.0
"""Every family and every scaling of rotary embedding against a float64 forward pass.

Weights are random and fixed, in the layout of Hugging Face's checkpoints. All models of a mode run
in one engine process, prompts cut into pieces, so that a window and a chunk of a prompt meet.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.exactness.cases import CASES, PROMPT, REFERENCE_LIMIT, SERVED, TOKENS
from tests.exactness.compare import (
    check_divergence,
    first_wrong_token,
    median_rms,
    relative_rms,
    rounding_tolerance,
)
from tests.exactness.families import FamilyReference
from tests.exactness.generate import run
from tests.exactness.reference import Rounding, bfloat16
from tests.models import make_llama

Answers = dict[str, tuple[list[int], Tensor]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("families")
    for name, config in CASES.items():
        make_llama(folder / name, **config)
    return folder


@pytest.fixture(scope="module")
def folder_of_bfloat16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("families-bfloat16")
    for name, config in CASES.items():
        make_llama(folder / name, **config | {"torch_dtype": "bfloat16"})
    return folder


def generate(folder: Path, isa: str | None, **config: Any) -> Answers:
    """Per case: greedy tokens and their logits f32 [TOKENS, vocab]."""
    limits = {"max_model_len": SERVED, "max_num_seqs": 4, "max_num_batched_tokens": 24}
    jobs = [
        {
            "config": {"model": str(folder / name), **limits, **config},
            "requests": [{"name": "r", "prompt": PROMPT, "params": {"max_tokens": TOKENS}}],
            "logits": str(folder / f"{name}-{isa}.pt"),
        }
        for name in CASES
    ]
    answers = run(jobs, isa)
    return {
        name: (answer["tokens"]["r"], torch.load(job["logits"])[-len(answer["tokens"]["r"]) :])
        for name, answer, job in zip(CASES, answers, jobs, strict=True)
    }


@pytest.fixture(scope="module")
def in_reference_mode(folder: Path) -> Answers:
    return generate(folder, "scalar", dequantize=True)


@pytest.fixture(scope="module")
def in_fast_mode(folder: Path) -> Answers:
    return generate(folder, None)


@pytest.fixture(scope="module")
def in_bfloat16(folder_of_bfloat16: Path) -> Answers:
    return generate(folder_of_bfloat16, None)


@pytest.mark.parametrize("name", CASES)
def test_reference_mode(name: str, folder: Path, in_reference_mode: Answers) -> None:
    """Identical greedy tokens, and logits as exact as f32 is."""
    tokens, logits = in_reference_mode[name]
    reference = FamilyReference.from_directory(folder / name, SERVED)
    expected = reference.logits(PROMPT + tokens[:-1])
    assert first_wrong_token(expected, len(PROMPT), tokens) is None
    expected = expected[len(PROMPT) - 1 :]
    error = (logits.double() - expected).abs().max() / expected.abs().max()
    assert error < REFERENCE_LIMIT


def compared(
    answer: tuple[list[int], Tensor], reference: FamilyReference, **rounding: Rounding
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of the answer's tokens: the engine's, the reference's, and the reference's with that
    rounding, which must explain a token that is not the reference's.
    """
    tokens, logits = answer
    sequence, first = PROMPT + tokens[:-1], len(PROMPT) - 1
    whole = reference.logits(sequence)
    expected = whole[first:]
    rounded = reference.with_rounding(**rounding).logits(sequence)[first:]
    check_divergence(whole, len(PROMPT), tokens, rounding_tolerance(rounded, expected))
    return logits, expected, rounded


@pytest.mark.parametrize("name", CASES)
def test_fast_mode(name: str, folder: Path, in_fast_mode: Answers) -> None:
    """A cache in bfloat16 is what it rounds; a token may differ only where that explains it."""
    reference = FamilyReference.from_directory(folder / name, SERVED)
    logits, expected, rounded = compared(in_fast_mode[name], reference, cache=bfloat16)
    assert relative_rms(logits, expected) < rounding_tolerance(rounded, expected)


@pytest.mark.parametrize("name", CASES)
def test_weights_in_bfloat16(name: str, folder_of_bfloat16: Path, in_bfloat16: Answers) -> None:
    """Inputs of their layers are rounded to bfloat16 as well, but for the router's."""
    reference = FamilyReference.from_directory(folder_of_bfloat16 / name, SERVED)
    logits, expected, rounded = compared(
        in_bfloat16[name], reference, inputs=bfloat16, cache=bfloat16
    )
    if any("experts" in field for field in reference.config):
        assert median_rms(logits, expected) < 2 * median_rms(rounded, expected)
    else:
        assert relative_rms(logits, expected) < rounding_tolerance(rounded, expected)


WITHOUT = {
    "rope-linear": {"rope_scaling": None},
    "rope-dynamic": {"rope_scaling": None},
    "rope-llama3": {"rope_scaling": None},
    "rope-yarn": {"rope_scaling": None},
    "rope-partial": {"partial_rotary_factor": 1.0},
    "mistral-window": {"sliding_window": None},
    "qwen2-window": {"use_sliding_window": False},
    "mixtral": {"num_experts_per_tok": 3},
    "qwen3-moe": {"norm_topk_prob": False},
    "gemma2": {"attn_logit_softcapping": None},
    "gemma3": {"rope_local_base_freq": 1e6},
    "phi3-long": {"original_max_position_embeddings": 160},
    "deepseek-v2": {"topk_method": "greedy"},
    "deepseek-v3": {"topk_group": 4},
}


@pytest.mark.parametrize("name", WITHOUT)
def test_the_reference_can_tell(name: str, folder: Path) -> None:
    """Each case would fail if what it is named after were left out: the error is far larger."""
    reference = FamilyReference.from_directory(folder / name, SERVED)
    changed = FamilyReference(reference.config | WITHOUT[name], reference.weights, SERVED)
    assert relative_rms(changed.logits(PROMPT), reference.logits(PROMPT)) > 0.02
