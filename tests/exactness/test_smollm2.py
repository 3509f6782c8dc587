# SPDX-License-Identifier: Apache-2.0
"""SmolLM2-135M-Instruct, Q4_1 and Q8_0, against a forward pass over weights that the `gguf` package
dequantized.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.exactness.compare import (
    check_divergence,
    first_wrong_token,
    relative_rms,
    rounding_tolerance,
)
from tests.exactness.generate import run
from tests.exactness.reference import Reference, Rounding, bfloat16, exact, in_digits
from vllm.config.model_source import DEFAULT_MODEL, resolve
from vllm.text.tokenizer import load_tokenizer

TEXTS = (
    "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n",
    "The water cycle has three parts. First, the sun",
    "def fibonacci(n):\n",
)
# What f32 arithmetic in another order does to logits of 25: 30 layers of sums over up to 1,536
# products, each off by at most 2^-24 of its size, stay far below; 1e-3 is the project's own limit.
REFERENCE_MODE_LIMIT = 1e-3


@dataclass(frozen=True)
class Case:
    """The model's path, its reference and prompts as token ids."""

    path: Path
    reference: Reference
    prompts: list[list[int]]


@pytest.fixture(scope="module")
def smollm2() -> Case:
    path = resolve(DEFAULT_MODEL).path
    tokenizer = load_tokenizer(path)
    prompts = [tokenizer.encode(text, add_special_tokens=False) for text in TEXTS]
    return Case(path, Reference.from_gguf(path), prompts)


def generate(
    case: Case, folder: Path, count: int, isa: str | None, **config: Any
) -> list[tuple[list[int], Tensor]]:
    """Per prompt, run by itself: greedy tokens and their logits f32 [count, vocab]."""
    jobs = [
        {
            "config": {"model": str(case.path), **config},
            "requests": [{"name": "r", "prompt": prompt, "params": {"max_tokens": count}}],
            "logits": str(folder / f"{number}.pt"),
        }
        for number, prompt in enumerate(case.prompts)
    ]
    answers = run(jobs, isa)
    return [
        (answer["tokens"]["r"], torch.load(job["logits"]))
        for job, answer in zip(jobs, answers, strict=True)
    ]


def test_reference_mode_equals_the_dequantized_forward_pass(smollm2: Case, tmp_path: Path) -> None:
    results = generate(smollm2, tmp_path, 8, "scalar", dequantize=True)
    for prompt, (tokens, logits) in zip(smollm2.prompts, results, strict=True):
        expected = smollm2.reference.logits(prompt + tokens[:-1])
        assert first_wrong_token(expected, len(prompt), tokens) is None
        difference = (logits.double() - expected[len(prompt) - 1 :]).abs().max()
        assert difference < REFERENCE_MODE_LIMIT
    assert "Paris" in load_tokenizer(smollm2.path).decode(results[0][0])


@pytest.mark.parametrize(("isa", "count", "inputs"), [("scalar", 2, exact), (None, 24, in_digits)])
def test_packed_weights_stay_within_the_rounding(
    smollm2: Case, tmp_path: Path, isa: str | None, count: int, inputs: Rounding
) -> None:
    """Packed weights are exact; a bfloat16 cache and, in fast kernels, rounded inputs are not."""
    rounded = smollm2.reference.with_rounding(inputs=inputs, cache=bfloat16)
    results = generate(smollm2, tmp_path, count, isa)
    for prompt, (tokens, logits) in zip(smollm2.prompts, results, strict=True):
        sequence, first = prompt + tokens[:-1], len(prompt) - 1
        expected = smollm2.reference.logits(sequence)
        tolerance = rounding_tolerance(rounded.logits(sequence)[first:], expected[first:])
        assert relative_rms(logits, expected[first:]) < tolerance
        check_divergence(expected, len(prompt), tokens, tolerance)
    if count > 2:  # rounding must not change an answer that people ask for
        assert "Paris" in load_tokenizer(smollm2.path).decode(results[0][0])
