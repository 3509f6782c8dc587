# SPDX-License-Identifier: Apache-2.0
"""How tokens and logits of the engine are held against a reference."""

from __future__ import annotations

from torch import Tensor


def first_wrong_token(
    reference: Tensor, prompt_length: int, tokens: list[int]
) -> tuple[int, float] | None:
    """Where the engine's greedy tokens leave the reference's, and by how much.

    `reference` f64 [prompt + tokens, vocab] was computed on the engine's own tokens, so that each
    position is judged by itself. Returns the index and the reference's logit of its own choice less
    that of the engine's; None when all agree.
    """
    for index, token in enumerate(tokens):
        row = reference[prompt_length - 1 + index]
        best = int(row.argmax())
        if best != token:
            return index, float(row[best] - row[token])
    return None


def relative_rms(found: Tensor, expected: Tensor) -> float:
    """Root mean square of the difference over the standard deviation of what is expected.

    Rows are centred first: a constant added to all logits of a row changes nothing.
    """
    found = found.double() - found.double().mean(-1, keepdim=True)
    expected = expected - expected.mean(-1, keepdim=True)
    return float((found - expected).pow(2).mean().sqrt() / expected.pow(2).mean().sqrt())
