# SPDX-License-Identifier: Apache-2.0
"""TinyStories-15M: the engine against an independent float64 forward pass, and against itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from tests.exactness import tinystories
from tests.exactness.compare import (
    check_divergence,
    first_wrong_token,
    relative_rms,
    rounding_tolerance,
)
from tests.exactness.generate import run
from tests.exactness.reference import Reference, bfloat16

TOKENS = 200
OPENINGS = (
    "Once upon a time, there was a little girl",
    "Tom and his dog went to the park. They saw a big tree and",
    "The sun",
    "Lily had a red ball. One day she lost it. She asked her mom to help. They looked under the "
    "bed, behind the door and in the garden. At last they found",
    '"Can I play with you?" asked the bird. The cat',
)


@pytest.fixture(scope="module")
def model() -> Path:
    try:
        return tinystories.directory()
    except tinystories.Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def prompts(model: Path) -> list[list[int]]:
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    return [tokenizer.encode(text).ids for text in OPENINGS]


def job(model: Path, prompts: list[list[int]], count: int = TOKENS, **config: Any) -> dict:
    requests = [
        {"name": str(i), "prompt": prompt, "params": {"max_tokens": count}}
        for i, prompt in enumerate(prompts)
    ]
    return {"config": {"model": str(model), **config}, "requests": requests}


def test_tokenizer_reads_what_it_writes(model: Path) -> None:
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    ids = tokenizer.encode(OPENINGS[0]).ids
    assert ids == [1, 9038, 2501, 263, 931, 29892, 727, 471, 263, 2217, 7826]
    assert tokenizer.decode(ids) == OPENINGS[0]
    assert tokenizer.decode(tokenizer.encode("é日本\n").ids) == "é日本\n"


def test_reference_mode_equals_float64(
    model: Path, prompts: list[list[int]], tmp_path: Path
) -> None:
    """Logits within 1e-3 and the same 200 greedy tokens; the text is a story."""
    one = job(model, prompts[:1], dequantize=True) | {"logits": str(tmp_path / "logits.pt")}
    (answer,) = run([one], isa="scalar")
    tokens = answer["tokens"]["0"]
    expected = Reference.from_directory(model).logits(prompts[0] + tokens[:-1])
    assert len(tokens) == TOKENS
    assert first_wrong_token(expected, len(prompts[0]), tokens) is None
    found = torch.load(tmp_path / "logits.pt").double()
    assert (found - expected[len(prompts[0]) - 1 :]).abs().max() < 1e-3
    text = Tokenizer.from_file(str(model / "tokenizer.json")).decode(prompts[0] + tokens)
    assert text.startswith("Once upon a time, there was a little girl named Lily.")


def test_batched_chunked_and_single_runs_agree(model: Path, prompts: list[list[int]]) -> None:
    """In the reference mode nothing about the schedule may show in the tokens."""
    count = 40
    single = [job(model, [prompt], count, dequantize=True) for prompt in prompts]
    batched = job(model, prompts, count, dequantize=True)
    chunked = job(model, prompts, count, dequantize=True, max_num_seqs=4, max_num_batched_tokens=7)
    staggered = job(model, prompts, count, dequantize=True, max_num_seqs=3)
    for index, request in enumerate(staggered["requests"]):
        request["at"] = 5 * index
    # 14 blocks of 16 tokens: two of the five requests fit at their full length.
    bytes_per_block = 16 * 2 * 6 * 288 * 4
    crowded = job(
        model,
        prompts,
        count,
        dequantize=True,
        max_model_len=128,
        kv_cache_memory=14 * bytes_per_block,
    )
    answers = run([*single, batched, chunked, staggered, crowded], isa="scalar")
    expected = {str(i): answers[i]["tokens"]["0"] for i in range(len(prompts))}
    assert answers[-1]["preemptions"] > 0
    for answer in answers[len(prompts) :]:
        assert answer["tokens"] == expected


def test_fast_mode_diverges_only_at_near_ties(
    model: Path, prompts: list[list[int]], tmp_path: Path
) -> None:
    """bfloat16 cache and vector kernels: close logits, and other tokens only within the margin."""
    one = job(model, prompts[:1]) | {"logits": str(tmp_path / "logits.pt")}
    answers = run([one, job(model, prompts)])
    reference = Reference.from_directory(model)
    tokens = answers[0]["tokens"]["0"]
    sequence, first = prompts[0] + tokens[:-1], len(prompts[0]) - 1
    expected = reference.logits(sequence)[first:]
    rounded = reference.with_rounding(cache=bfloat16).logits(sequence)[first:]
    tolerance = rounding_tolerance(rounded, expected)
    assert relative_rms(torch.load(tmp_path / "logits.pt"), expected) < tolerance
    for index, prompt in enumerate(prompts):
        tokens = answers[1]["tokens"][str(index)]
        logits = reference.logits(prompt + tokens[:-1])
        check_divergence(logits, len(prompt), tokens, tolerance)
